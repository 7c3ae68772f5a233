// Packing: groups of four bytes of 32 rows become neighbours. Layouts of the stored blocks: ggml-common.h; of the panels:
// kernels/kernels.h.
#include "cpu/matrix.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "io/gguf/kquant_scales.h"

namespace plumb::cpu {
namespace {

using Bytes = const std::byte*;

// The stored bytes of the panel's rows; null past the matrix's end.
struct Rows {
  Bytes at[kPanelRows];
};

// Words of a row that are moved before the next row's turn: what 32 rows of them fill stays in the first-level cache.
constexpr std::int64_t kWordsAtOnce = 16;

// Bytes of panels that are packed before the file's pages are given back.
constexpr std::int64_t kSliceBytes = std::int64_t{1} << 22;

// to[j][r] = the four bytes at `offset` + 4 j of row r, xor `flip`.
void transpose(const Rows& rows, std::size_t offset, std::int64_t words, std::uint32_t flip,
               std::uint8_t* to) {
  for (std::int64_t first = 0; first < words; first += kWordsAtOnce) {
    const std::int64_t end = std::min(first + kWordsAtOnce, words);
    for (int r = 0; r < kPanelRows; ++r) {
      if (rows.at[r] == nullptr) continue;
      for (std::int64_t j = first; j < end; ++j) {
        std::uint32_t word = 0;
        std::memcpy(&word, rows.at[r] + offset + static_cast<std::size_t>(j) * 4, 4);
        word ^= flip;
        std::memcpy(to + (j * kPanelRows + r) * 4, &word, 4);
      }
    }
  }
}

// The half at `offset` of each row.
void halves(const Rows& rows, std::size_t offset, std::uint8_t* to) {
  for (int r = 0; r < kPanelRows; ++r) {
    if (rows.at[r] != nullptr) std::memcpy(to + r * 2, rows.at[r] + offset, 2);
  }
}

void pack_f16(const Rows& rows, std::int64_t columns, std::uint8_t* to) {
  for (std::int64_t first = 0; first < columns; first += 2 * kWordsAtOnce) {
    const std::int64_t end = std::min(first + 2 * kWordsAtOnce, columns);
    for (int r = 0; r < kPanelRows; ++r) {
      if (rows.at[r] == nullptr) continue;
      for (std::int64_t k = first; k < end; ++k)
        std::memcpy(to + (k * kPanelRows + r) * 2, rows.at[r] + k * 2, 2);
    }
  }
}

void pack_bf16(const Rows& rows, std::int64_t columns, std::uint8_t* to) {
  transpose(rows, 0, columns / 2, 0, to);
  if (columns % 2 == 0) return;
  for (int r = 0; r < kPanelRows; ++r) {  // the partner of the last column stays 0
    if (rows.at[r] != nullptr)
      std::memcpy(to + (columns / 2 * kPanelRows + r) * 4, rows.at[r] + (columns - 1) * 2, 2);
  }
}

void pack_q8_0(const Rows& rows, std::int64_t columns, std::uint8_t* to) {
  for (std::size_t block = 0; block < static_cast<std::size_t>(columns) / 32; ++block) {
    halves(rows, block * 34, to);
    transpose(rows, block * 34 + 2, 8, 0x80808080U, to + 64);
    to += 64 + 1024;
  }
}

void pack_q4_0(const Rows& rows, std::int64_t columns, std::uint8_t* to) {
  for (std::size_t block = 0; block < static_cast<std::size_t>(columns) / 32; ++block) {
    halves(rows, block * 18, to);
    transpose(rows, block * 18 + 2, 4, 0, to + 64);
    to += 64 + 512;
  }
}

void pack_q4_1(const Rows& rows, std::int64_t columns, std::uint8_t* to) {
  for (std::size_t block = 0; block < static_cast<std::size_t>(columns) / 32; ++block) {
    halves(rows, block * 20, to);
    halves(rows, block * 20 + 2, to + 64);
    transpose(rows, block * 20 + 4, 4, 0, to + 128);
    to += 128 + 512;
  }
}

// The fifth bits of Q5_0 and Q5_1, in the file one word with the bit k for column k: bit s of byte i is that of column 4 s + i.
void fifth_bits(const Rows& rows, std::size_t offset, std::uint8_t* to) {
  for (int r = 0; r < kPanelRows; ++r) {
    if (rows.at[r] == nullptr) continue;
    std::uint32_t word = 0;
    std::memcpy(&word, rows.at[r] + offset, 4);
    for (unsigned k = 0; k < 32; ++k)
      to[static_cast<unsigned>(r) * 4 + k % 4] |= static_cast<std::uint8_t>((word >> k & 1U) << (k / 4));
  }
}

// Of Q5_0 and, with `minima`, of Q5_1.
void pack_q5(const Rows& rows, std::int64_t columns, bool minima, std::uint8_t* to) {
  const std::size_t head = minima ? 4 : 2;
  for (std::size_t block = 0; block < static_cast<std::size_t>(columns) / 32; ++block) {
    const std::size_t start = block * (head + 20);
    halves(rows, start, to);
    if (minima) halves(rows, start + 2, to + 64);
    to += head * 32;
    fifth_bits(rows, start + head, to);
    transpose(rows, start + head + 4, 4, 0, to + 128);
    to += 128 + 512;
  }
}

// Of Q4_K and, with `fifth_bits`, of Q5_K, whose codes' high bits lie between the scales and the nibbles.
void pack_q4_k(const Rows& rows, std::int64_t columns, bool fifth_bits, std::uint8_t* to) {
  const std::size_t bits = fifth_bits ? 32 : 0;
  for (std::size_t block = 0; block < static_cast<std::size_t>(columns) / 256; ++block) {
    const std::size_t start = block * (144 + bits);
    halves(rows, start, to);
    halves(rows, start + 2, to + 64);
    for (int r = 0; r < kPanelRows; ++r) {
      if (rows.at[r] == nullptr) continue;
      for (std::size_t group = 0; group < 8; ++group) {
        const ScaleAndMinimum six = unpack_six_bits(rows.at[r] + start + 4, group);
        to[128 + group * 32 + static_cast<std::size_t>(r)] = static_cast<std::uint8_t>(six.scale);
        to[384 + group * 32 + static_cast<std::size_t>(r)] = static_cast<std::uint8_t>(six.minimum);
      }
    }
    transpose(rows, start + 16 + bits, 32, 0, to + 640);
    to += 640 + 4096;
    if (!fifth_bits) continue;
    transpose(rows, start + 16, 8, 0, to);
    to += 1024;
  }
}

void pack_q6_k(const Rows& rows, std::int64_t columns, std::uint8_t* to) {
  for (std::size_t block = 0; block < static_cast<std::size_t>(columns) / 256; ++block) {
    const std::size_t start = block * 210;
    halves(rows, start + 208, to);
    for (int r = 0; r < kPanelRows; ++r) {
      if (rows.at[r] == nullptr) continue;
      for (std::size_t group = 0; group < 16; ++group)
        std::memcpy(to + 64 + group * 32 + static_cast<std::size_t>(r), rows.at[r] + start + 192 + group, 1);
    }
    for (std::size_t half = 0; half < 2; ++half) {
      transpose(rows, start + half * 64, 16, 0, to + 576 + half * 3072);
      transpose(rows, start + 128 + half * 32, 8, 0, to + 576 + half * 3072 + 2048);
    }
    to += 576 + 6144;
  }
}

std::optional<PanelForm> form_of(const Weight& weight) {
  const std::optional<DType> dtype = weight.stored_dtype();
  if (!dtype || weight.shape().size() < 2) return std::nullopt;
  switch (*dtype) {
    case DType::kF32:
      return PanelForm::kF32;
    case DType::kF16:
      return PanelForm::kF16;
    case DType::kBF16:
      return PanelForm::kBF16;
    case DType::kQ8_0:
      return PanelForm::kQ8_0;
    case DType::kQ4_0:
      return PanelForm::kQ4_0;
    case DType::kQ4_1:
      return PanelForm::kQ4_1;
    case DType::kQ5_0:
      return PanelForm::kQ5_0;
    case DType::kQ5_1:
      return PanelForm::kQ5_1;
    case DType::kQ4_K:
      return PanelForm::kQ4_K;
    case DType::kQ5_K:
      return PanelForm::kQ5_K;
    case DType::kQ6_K:
      return PanelForm::kQ6_K;
    default:
      return std::nullopt;
  }
}

}  // namespace

Matrix::Matrix(WeightPtr weight)
    : weight_(std::move(weight)),
      rows_(weight_->rows()),
      columns_(weight_->row_length()),
      form_(form_of(*weight_)) {
  if (form_) panel_bytes_ = panel_bytes(*form_, columns_);
}

void Matrix::prepare(ThreadPool& pool) {
  if (!form_ || packed_ || rows_ == 0) return;
  packed_ = true;
  if (at_ == nullptr) {
    pages_ = Pages(packed_bytes());
    at_ = pages_.data();
  }
  // In slices: what was packed and what it was packed from are not both in memory but for one slice.
  const std::int64_t slice = std::max<std::int64_t>(1, kSliceBytes / static_cast<std::int64_t>(std::max<std::size_t>(panel_bytes_, 1)));
  for (std::int64_t first = 0; first < panels(); first += slice) {
    pool.for_rows(std::min(slice, panels() - first), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t index = first + begin; index < first + end; ++index)
        pack(index);
    });
    weight_->release();
  }
}

void Matrix::pack(std::int64_t index) {
  Rows rows{};
  for (std::int64_t r = 0; r < kPanelRows && index * kPanelRows + r < rows_; ++r)
    rows.at[r] = weight_->stored_row(index * kPanelRows + r).data();
  std::uint8_t* to = at_ + static_cast<std::size_t>(index) * panel_bytes_;
  switch (*form_) {
    case PanelForm::kF32:
      return transpose(rows, 0, columns_, 0, to);
    case PanelForm::kF16:
      return pack_f16(rows, columns_, to);
    case PanelForm::kBF16:
      return pack_bf16(rows, columns_, to);
    case PanelForm::kQ8_0:
      return pack_q8_0(rows, columns_, to);
    case PanelForm::kQ4_0:
      return pack_q4_0(rows, columns_, to);
    case PanelForm::kQ4_1:
      return pack_q4_1(rows, columns_, to);
    case PanelForm::kQ5_0:
      return pack_q5(rows, columns_, false, to);
    case PanelForm::kQ5_1:
      return pack_q5(rows, columns_, true, to);
    case PanelForm::kQ4_K:
      return pack_q4_k(rows, columns_, false, to);
    case PanelForm::kQ5_K:
      return pack_q4_k(rows, columns_, true, to);
    case PanelForm::kQ6_K:
      return pack_q6_k(rows, columns_, to);
  }
}

Panel Matrix::panel(std::int64_t index) const {
  return {.form = *form_,
          .data = at_ + static_cast<std::size_t>(index) * panel_bytes_,
          .columns = columns_};
}

void Matrix::decode_panel(std::int64_t index, float* to) const {
  std::vector<double> row(static_cast<std::size_t>(columns_));
  for (std::int64_t r = 0; r < kPanelRows; ++r) {
    const bool present = index * kPanelRows + r < rows_;
    if (present) weight_->read_row(index * kPanelRows + r, row);
    for (std::size_t k = 0; k < row.size(); ++k)
      to[k * kPanelRows + static_cast<std::size_t>(r)] = present ? static_cast<float>(row[k]) : 0.0F;
  }
}

std::string Matrix::path() const {
  return weight_->format() + (form_ ? ", panels" : ", decoded as it is used");
}

}  // namespace plumb::cpu
