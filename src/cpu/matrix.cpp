// Which stored forms have panels, and when a matrix is packed.
#include "cpu/matrix.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "io/decode.h"
#include "io/gguf/block_integers.h"

namespace plumb::cpu {
namespace {

// Bytes of panels that are packed before the file's pages are given back.
constexpr std::int64_t kSliceBytes = std::int64_t{1} << 22;

// Whether weights of two bytes are codes of 16 bits. Tiles of bfloat16 are the quicker ones where there are any.
bool as_int16(DType dtype, Activations activations, const Kernels& kernels) {
  if (activations == Activations::kExact || kernels.multiply_int16 == nullptr) return false;
  return dtype == DType::kF16 || kernels.multiply_bf16 == nullptr;
}

std::optional<PanelForm> form_of(const Weight& weight, Activations activations, const Kernels& kernels) {
  const std::optional<DType> dtype = weight.stored_dtype();
  if (!dtype || weight.shape().size() < 2) return std::nullopt;
  switch (*dtype) {
    case DType::kF32:
      return PanelForm::kF32;
    case DType::kF16:
      return as_int16(*dtype, activations, kernels) ? PanelForm::kInt16OfF16 : PanelForm::kF16;
    case DType::kBF16:
      return as_int16(*dtype, activations, kernels) ? PanelForm::kInt16OfBF16 : PanelForm::kBF16;
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
    case DType::kMXFP4:
      return PanelForm::kMXFP4;
    case DType::kNVFP4:
      return PanelForm::kNVFP4;
    case DType::kIQ4_NL:
      return PanelForm::kIQ4_NL;
    case DType::kIQ4_XS:
      return PanelForm::kIQ4_XS;
    case DType::kQ2_K:
      return PanelForm::kQ2_K;
    case DType::kQ3_K:
      return PanelForm::kQ3_K;
    case DType::kTQ2_0:
      return PanelForm::kTQ2_0;
    default:
      return std::nullopt;
  }
}

// Whole numbers that are read from the file for each product.
std::optional<PanelForm> integer_form_of(const Weight& weight) {
  if (weight.shape().size() < 2 || weight.row_length() % 32 != 0) return std::nullopt;
  if (weight.has_integers()) return PanelForm::kOffsetIntegers;
  const std::optional<DType> dtype = weight.stored_dtype();
  if (dtype && integer_decoder(*dtype) != nullptr) return PanelForm::kIntegers;
  return std::nullopt;
}

// Where scales lie beside the codes.
std::optional<PanelForm> scaled_form_of(const Weight& weight) {
  const std::optional<ScaledForm> form = weight.scaled_form();
  if (!form || weight.shape().size() < 2) return std::nullopt;
  const std::int64_t columns = weight.row_length();
  switch (form->codes) {
    case ScaledCodes::kE2M1:
      if (form->scales == DType::kF8E8M0 && form->group == 32 && columns % 32 == 0) return PanelForm::kMXFP4;
      if (form->scales == DType::kF8E4M3 && form->group == 16 && columns % 32 == 0) return PanelForm::kNVFP4;
      return std::nullopt;
    case ScaledCodes::kE4M3:
      if (form->group % kFp8Block == 0 || form->group >= columns) return PanelForm::kFP8;
      return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

Matrix::Matrix(WeightPtr weight, Activations activations, const Kernels& kernels)
    : weight_(std::move(weight)),
      rows_(weight_->rows()),
      columns_(weight_->row_length()),
      form_(form_of(*weight_, activations, kernels)) {
  if (!form_) {
    form_ = scaled_form_of(*weight_);
    scaled_ = form_.has_value();
  }
  if (!form_) {
    form_ = integer_form_of(*weight_);
    passing_ = form_.has_value();
  }
  if (form_) panel_bytes_ = panel_bytes(*form_, columns_);
}

std::span<const std::uint8_t> Matrix::kept_from(std::int64_t index, std::size_t most) const {
  if (at_ == nullptr || passing_) return {};
  const std::size_t before = static_cast<std::size_t>(index) * panel_bytes_;
  return {at_ + before, std::min(most, packed_bytes() - before)};
}

void Matrix::pack(ThreadPool& pool, const Kernels& kernels) {
  if (!unpacked()) return;
  packed_ = true;
  if (rows_ == 0) return;
  if (at_ == nullptr) {
    pages_ = Pages(packed_bytes());
    at_ = pages_.data();
  }
  // In slices: what was packed and what it was packed from are not both in memory but for one slice.
  const std::int64_t slice = std::max<std::int64_t>(1, kSliceBytes / static_cast<std::int64_t>(std::max<std::size_t>(panel_bytes_, 1)));
  for (std::int64_t first = 0; first < panels(); first += slice) {
    pool.for_rows(std::min(slice, panels() - first), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t index = first + begin; index < first + end; ++index)
        pack_panel(kernels, index, at_ + static_cast<std::size_t>(index) * panel_bytes_);
    });
    weight_->release();
  }
}

void Matrix::pack_scaled_panel(const Kernels& kernels, std::int64_t index, std::uint8_t* to) const {
  const std::uint8_t* codes[kPanelRows];
  const std::uint8_t* scales[kPanelRows];
  float factors[kPanelRows];
  const std::int64_t units = (columns_ + kFp8Block - 1) / kFp8Block;
  std::vector<float> own;
  std::vector<double> decoded;
  if (*form_ == PanelForm::kFP8) own.resize(static_cast<std::size_t>(kPanelRows * units));
  for (std::int64_t r = 0; r < kPanelRows; ++r) {
    const ScaledRow row = weight_->scaled_row(std::min(index * kPanelRows + r, rows_ - 1));  // past the end as in pack_panel
    codes[r] = reinterpret_cast<const std::uint8_t*>(row.codes.data());
    scales[r] = reinterpret_cast<const std::uint8_t*>(row.scales.data());
    factors[r] = row.factor;
    if (own.empty()) continue;
    const ScaledForm form = *weight_->scaled_form();
    decoded.resize(static_cast<std::size_t>((columns_ + form.group - 1) / form.group));
    decode(form.scales, row.scales, decoded);
    float* const first = own.data() + r * units;
    for (std::int64_t unit = 0; unit < units; ++unit)
      first[unit] = static_cast<float>(decoded[static_cast<std::size_t>(unit * kFp8Block / form.group)]) * row.factor;
    scales[r] = reinterpret_cast<const std::uint8_t*>(first);
  }
  kernels.pack_scaled(*form_, {.codes = codes, .scales = scales, .factors = factors, .offsets = nullptr, .finite_powers = weight_->scaled_form()->finite_powers},
                      columns_, to);
}

void Matrix::pack_integer_panel(const Kernels& kernels, std::int64_t index, std::uint8_t* to) const {
  thread_local std::vector<std::int8_t> codes;
  thread_local std::vector<float> scales;
  const auto columns = static_cast<std::size_t>(columns_);
  const std::size_t groups = columns / kIntegerGroup;
  const std::size_t stride = columns + 64;  // rows a multiple of 4 KiB apart would meet in one set of the first-level cache
  codes.resize(stride * kPanelRows);
  scales.resize(2 * groups * kPanelRows);
  const std::uint8_t* of_codes[kPanelRows];
  const std::uint8_t* of_scales[kPanelRows];
  const std::uint8_t* of_offsets[kPanelRows];
  const std::optional<DType> dtype = weight_->stored_dtype();
  const IntegerDecoder decode_block = dtype ? integer_decoder(*dtype) : nullptr;
  for (std::size_t r = 0; r < kPanelRows; ++r) {
    const std::int64_t row = std::min(index * kPanelRows + static_cast<std::int64_t>(r), rows_ - 1);  // past the end as in pack_panel
    const auto own = std::span(codes).subspan(r * stride, columns);
    const auto own_scales = std::span(scales).subspan(2 * r * groups, groups);
    const auto own_offsets = std::span(scales).subspan((2 * r + 1) * groups, groups);
    of_codes[r] = reinterpret_cast<const std::uint8_t*>(own.data());
    of_scales[r] = reinterpret_cast<const std::uint8_t*>(own_scales.data());
    of_offsets[r] = reinterpret_cast<const std::uint8_t*>(own_offsets.data());
    if (decode_block == nullptr) {
      weight_->read_integers(row, own, own_scales, own_offsets);
      continue;
    }
    const std::byte* block = weight_->stored_row(row).data();
    const auto elements = static_cast<std::size_t>(info(*dtype).block_elements);
    for (std::size_t k = 0; k < columns; k += elements, block += info(*dtype).block_bytes)
      decode_block(block, own.data() + k, own_scales.data() + k / kIntegerGroup);
  }
  kernels.pack_scaled(*form_, {.codes = of_codes, .scales = of_scales, .factors = nullptr, .offsets = of_offsets}, columns_, to);
}

void Matrix::pack_panel(const Kernels& kernels, std::int64_t index, std::uint8_t* to) const {
  if (scaled_) return pack_scaled_panel(kernels, index, to);
  if (passing_) return pack_integer_panel(kernels, index, to);
  const std::uint8_t* rows[kPanelRows];
  for (std::int64_t r = 0; r < kPanelRows; ++r) {
    const std::int64_t row = std::min(index * kPanelRows + r, rows_ - 1);  // past the end: the last one, whose products nobody reads
    rows[r] = reinterpret_cast<const std::uint8_t*>(weight_->stored_row(row).data());
  }
  kernels.pack(*form_, rows, columns_, to);
}

Panel Matrix::panel(std::int64_t index, const Kernels& kernels, Pages& scratch) const {
  if (packed_) return {.form = *form_, .data = at_ + static_cast<std::size_t>(index) * panel_bytes_, .columns = columns_};
  if (scratch.size() < panel_bytes_) scratch = Pages(panel_bytes_);
  pack_panel(kernels, index, scratch.data());
  return {.form = *form_, .data = scratch.data(), .columns = columns_};
}

Panel Matrix::decoded_panel(std::int64_t index, const Kernels& kernels, DecodeScratch& scratch) const {
  const auto columns = static_cast<std::size_t>(columns_);
  scratch.row.resize(columns);
  scratch.rows.resize(columns * kPanelRows);
  const std::uint8_t* rows[kPanelRows];
  for (std::size_t r = 0; r < kPanelRows; ++r) {
    const std::int64_t row = index * kPanelRows + static_cast<std::int64_t>(r);
    float* to = scratch.rows.data() + r * columns;
    rows[r] = reinterpret_cast<const std::uint8_t*>(row < rows_ ? to : scratch.rows.data());  // past the end: the first one
    if (row >= rows_) continue;
    weight_->read_row(row, scratch.row);
    std::transform(scratch.row.begin(), scratch.row.end(), to, [](double value) { return static_cast<float>(value); });
  }
  const std::size_t bytes = panel_bytes(PanelForm::kF32, columns_);
  if (scratch.panel.size() < bytes) scratch.panel = Pages(bytes);
  kernels.pack(PanelForm::kF32, rows, columns_, scratch.panel.data());
  return {.form = PanelForm::kF32, .data = scratch.panel.data(), .columns = columns_};
}

std::string Matrix::path() const {
  return weight_->format() + (form_ && !passing_ ? ", panels" : ", decoded as it is used");
}

}  // namespace plumb::cpu
