// GGUF's blocks are taken apart by decoding them with neutral scales (layouts: ggml-common.h); other files' forms say their parts themselves.
#include "parity/stored_codes.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numeric>

#include "core/dtype.h"
#include "core/float_bits.h"
#include "io/decode.h"
#include "io/forms/scaled.h"
#include "io/gguf/block_bytes.h"
#include "io/gguf/blocks.h"
#include "io/gguf/kquant_scales.h"

namespace plumb {
namespace {

// The small scales inside a block of 256.
enum class Inner : std::uint8_t { kNone, kSixBits, kSignedBytes };

struct Block {
  DType dtype;
  std::size_t scale_at;  // of a half
  std::optional<std::size_t> offset_at;
  Inner inner;
  std::size_t group;
  std::size_t run;
  int bits;
  int zero;
};

constexpr std::array kBlocks = {
    Block{DType::kQ4_0, 0, std::nullopt, Inner::kNone, 32, 32, 4, 8}, Block{DType::kQ4_1, 0, 2, Inner::kNone, 32, 32, 4, 0},
    Block{DType::kQ5_0, 0, std::nullopt, Inner::kNone, 32, 32, 5, 16}, Block{DType::kQ5_1, 0, 2, Inner::kNone, 32, 32, 5, 0},
    Block{DType::kQ8_0, 0, std::nullopt, Inner::kNone, 32, 0, 8, 128}, Block{DType::kQ4_K, 0, 2, Inner::kSixBits, 32, 64, 4, 0},
    Block{DType::kQ5_K, 0, 2, Inner::kSixBits, 32, 64, 5, 0}, Block{DType::kQ6_K, 208, std::nullopt, Inner::kSignedBytes, 16, 128, 6, 32},
    Block{DType::kIQ4_NL, 0, std::nullopt, Inner::kNone, 32, 32, 0, 0},
};
constexpr std::size_t kSixBitsAt = 4;
constexpr std::size_t kSignedBytesAt = 192;
constexpr std::size_t kSignedScales = 16;
constexpr std::size_t kSixBitScales = 8;

const Block* block_of(DType dtype) {
  const auto place = std::ranges::find_if(kBlocks, [&](const Block& block) { return block.dtype == dtype; });
  return place == kBlocks.end() ? nullptr : &*place;
}

// The block with a scale of 1 everywhere and no offset: what it decodes to are its codes.
void decode_codes(const Block& block, const std::byte* bytes, float* out) {
  constexpr std::uint16_t kOne = 0x3c00;
  std::array<std::byte, 256> copy{};
  std::memcpy(copy.data(), bytes, static_cast<std::size_t>(info(block.dtype).block_bytes));
  std::memcpy(copy.data() + block.scale_at, &kOne, sizeof(kOne));
  if (block.offset_at) std::memset(copy.data() + *block.offset_at, 0, sizeof(kOne));
  if (block.inner == Inner::kSignedBytes) std::memset(copy.data() + kSignedBytesAt, 1, kSignedScales);
  if (block.inner == Inner::kSixBits) {
    ScaleAndMinimum ones[kSixBitScales];
    std::ranges::fill(ones, ScaleAndMinimum{1, 0});
    pack_six_bits(ones, reinterpret_cast<std::uint8_t*>(copy.data() + kSixBitsAt));
  }
  block_decoder(block.dtype)(copy.data(), out);
}

StoredRow row_of_blocks(const Weight& weight, const Block& block, std::int64_t row) {
  const auto bytes = weight.stored_row(row);
  const auto size = static_cast<std::size_t>(info(block.dtype).block_bytes);
  const auto elements = static_cast<std::size_t>(info(block.dtype).block_elements);
  StoredRow parts;
  std::vector<float> codes(elements);
  for (std::size_t at = 0; at + size <= bytes.size(); at += size) {
    const std::byte* own = bytes.data() + at;
    decode_codes(block, own, codes.data());
    parts.codes.insert(parts.codes.end(), codes.begin(), codes.end());
    const float d = half_at(own, block.scale_at);
    const float m = block.offset_at ? half_at(own, *block.offset_at) : 0;
    for (std::size_t group = 0; group < elements / block.group; ++group) {
      const ScaleAndMinimum six = block.inner == Inner::kSixBits ? unpack_six_bits(own + kSixBitsAt, group) : ScaleAndMinimum{1, 1};
      const float inner = block.inner == Inner::kSignedBytes ? static_cast<float>(signed_byte_at(own, kSignedBytesAt + group))
                                                             : static_cast<float>(six.scale);
      parts.scales.push_back(d * inner);
      // Minima are taken off, offsets are added.
      if (block.offset_at) parts.offsets.push_back(block.inner == Inner::kSixBits ? -m * static_cast<float>(six.minimum) : m);
    }
  }
  return parts;
}

constexpr std::size_t kIntegerRun = 16;  // Weight::read_integers

struct Integers {
  std::vector<std::int8_t> codes;
  std::vector<float> scales;
  std::vector<float> offsets;
};

Integers integers_of(const Weight& weight, std::int64_t row) {
  const auto width = static_cast<std::size_t>(weight.row_length());
  Integers integers{.codes = std::vector<std::int8_t>(width),
                    .scales = std::vector<float>(width / kIntegerRun),
                    .offsets = std::vector<float>(width / kIntegerRun)};
  weight.read_integers(row, integers.codes, integers.scales, integers.offsets);
  return integers;
}

// What a few rows show of the form: how many bits, from which number on, and how many elements share a scale.
StoredForm form_of_integers(const Weight& weight) {
  constexpr std::int64_t kRows = 4;
  constexpr int kEight = 8;
  StoredForm form{.name = weight.format(), .group = static_cast<std::size_t>(weight.row_length()), .pairs = true};
  int least = 0;
  int most = 0;
  for (std::int64_t row = 0; row < std::min(kRows, weight.rows()); ++row) {
    const Integers integers = integers_of(weight, row);
    const auto [low, high] = std::ranges::minmax(integers.codes);
    least = std::min<int>(least, low);
    most = std::max<int>(most, high);
    for (std::size_t i = 1; i < integers.scales.size(); ++i) {
      if (integers.scales[i] != integers.scales[i - 1]) form.group = std::gcd(form.group, i * kIntegerRun);
    }
    form.offsets = form.offsets || std::ranges::any_of(integers.offsets, [](float offset) { return offset != 0; });
  }
  form.bits = least >= -kEight && most < (least < 0 ? kEight : 2 * kEight) ? 4 : 8;
  form.zero = form.bits == 4 && least >= 0 ? 0 : 1 << (form.bits - 1);
  form.run = form.bits == 4 ? form.group : 0;
  return form;
}

StoredRow row_of_integers(const Weight& weight, const StoredForm& form, std::int64_t row) {
  const Integers integers = integers_of(weight, row);
  StoredRow parts{.codes = {integers.codes.begin(), integers.codes.end()}, .scales = {}, .offsets = {}};
  for (std::size_t at = 0; at < parts.codes.size(); at += form.group) {
    parts.scales.push_back(integers.scales[at / kIntegerRun]);
    if (form.offsets) parts.offsets.push_back(integers.offsets[at / kIntegerRun]);
  }
  return parts;
}

StoredRow row_of_scaled(const Weight& weight, std::int64_t row) {
  const ScaledForm form = *weight.scaled_form();
  const ScaledRow own = weight.scaled_row(row);
  StoredRow parts{.codes = std::vector<double>(static_cast<std::size_t>(weight.row_length())), .scales = {}, .offsets = {}};
  if (form.codes == ScaledCodes::kE2M1)
    decode_e2m1_row(own.codes, parts.codes);
  else
    decode(DType::kF8E4M3, own.codes, parts.codes);
  parts.scales.resize(own.scales.size() / static_cast<std::size_t>(info(form.scales).block_bytes));
  decode(form.scales, own.scales, parts.scales);
  for (double& scale : parts.scales)
    scale *= own.factor;
  return parts;
}

class Misread final : public Weight {
 public:
  Misread(WeightPtr base, StoredForm form, Misreading change) : base_(std::move(base)), form_(std::move(form)), change_(std::move(change)) {}
  const Shape& shape() const override { return base_->shape(); }
  void read_row(std::int64_t row, std::span<double> out) const override {
    StoredRow parts = parts_of_row(*base_, form_, row);
    change_(*base_, form_, row, parts);
    for (std::size_t i = 0; i < out.size(); ++i) {
      const std::size_t group = i / form_.group;
      const float value = static_cast<float>(parts.codes[i]) * static_cast<float>(parts.scales[group]);
      out[i] = parts.offsets.empty() ? value : value + static_cast<float>(parts.offsets[group]);
    }
  }
  std::optional<DType> element_type() const override { return base_->element_type(); }
  std::string format() const override { return base_->format(); }
  std::uint64_t stored_bytes() const override { return base_->stored_bytes(); }

 private:
  WeightPtr base_;
  StoredForm form_;
  Misreading change_;
};

}  // namespace

std::optional<StoredForm> stored_form(const Weight& weight) {
  if (weight.shape().size() < 2 || weight.rows() < 1) return std::nullopt;
  if (const auto dtype = weight.stored_dtype()) {
    const Block* block = block_of(*dtype);
    if (block == nullptr) return std::nullopt;
    return StoredForm{.name = std::string(to_string(*dtype)),
                      .group = block->group,
                      .run = block->run,
                      .pairs = false,
                      .bits = block->bits,
                      .zero = block->zero,
                      .offsets = block->offset_at.has_value()};
  }
  if (const auto form = weight.scaled_form()) {
    const auto group = static_cast<std::size_t>(form->group);
    const bool nibbles = form->codes == ScaledCodes::kE2M1;
    return StoredForm{.name = weight.format(), .group = group, .run = nibbles ? group : 0, .pairs = true, .factor = weight.scaled_row(0).factor};
  }
  if (weight.has_integers()) return form_of_integers(weight);
  return std::nullopt;
}

StoredRow parts_of_row(const Weight& weight, const StoredForm& form, std::int64_t row) {
  if (const auto dtype = weight.stored_dtype()) return row_of_blocks(weight, *block_of(*dtype), row);
  return weight.scaled_form() ? row_of_scaled(weight, row) : row_of_integers(weight, form, row);
}

WeightPtr misread_weight(WeightPtr weight, StoredForm form, Misreading change) {
  return std::make_shared<Misread>(std::move(weight), std::move(form), std::move(change));
}

}  // namespace plumb
