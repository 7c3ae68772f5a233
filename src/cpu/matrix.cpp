// Which stored forms have panels, and when a matrix is packed.
#include "cpu/matrix.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace plumb::cpu {
namespace {

// Bytes of panels that are packed before the file's pages are given back.
constexpr std::int64_t kSliceBytes = std::int64_t{1} << 22;

// Whether weights of two bytes are codes of 16 bits. Tiles of bfloat16 are the quicker ones where there are any.
bool as_int16(DType dtype, Activations activations, const Kernels& kernels) {
  if (activations != Activations::kShort || kernels.multiply_int16 == nullptr) return false;
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
    default:
      return std::nullopt;
  }
}

}  // namespace

Matrix::Matrix(WeightPtr weight, Activations activations, const Kernels& kernels)
    : weight_(std::move(weight)),
      rows_(weight_->rows()),
      columns_(weight_->row_length()),
      form_(form_of(*weight_, activations, kernels)) {
  if (form_) panel_bytes_ = panel_bytes(*form_, columns_);
}

void Matrix::pack(ThreadPool& pool, const Kernels& kernels) {
  if (!form_ || packed_) return;
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

void Matrix::pack_panel(const Kernels& kernels, std::int64_t index, std::uint8_t* to) const {
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
  return weight_->format() + (form_ ? ", panels" : ", decoded as it is used");
}

}  // namespace plumb::cpu
