// Codes times scales. compressed-tensors, quantization/lifecycle/forward.py (the order
// of the operations in float32).
#include "io/forms/scaled.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "io/decode.h"

namespace plumb {
namespace {

std::int64_t rows_of(const Shape& shape) {
  std::int64_t rows = 1;
  for (std::size_t i = 0; i + 1 < shape.size(); ++i)
    rows *= shape[i];
  return rows;
}

Error misfit(const FormFiles& files, const StoredTensor& scales, const Shape& shape) {
  return form_error(files, scales, "does not fit a weight of shape " + to_string(shape));
}

class ScaledWeight final : public FormWeight {
 public:
  ScaledWeight(const FormFiles& files, ScaledParts parts,
               const std::vector<const StoredTensor*>& tensors)
      : FormWeight(files, parts.shape, parts.format, tensors), parts_(std::move(parts)) {}

  void read_row(std::int64_t row, std::span<double> out) const override {
    const std::uint64_t first = static_cast<std::uint64_t>(row) * parts_.row_bytes;
    parts_.decode_row(parts_.codes.subspan(first, parts_.row_bytes), out);
    const std::vector<float> scales = parts_.scales.row(row);
    const auto width = static_cast<std::size_t>(parts_.scales.column_block);
    for (std::size_t group = 0; group * width < out.size(); ++group) {
      const float zero = zero_of(row, group);
      const bool beyond = parts_.finite_powers && std::isnan(scales[group]);  // 2^128, which no float32 is
      const float scale = (beyond ? 0x1p127F : scales[group]) / parts_.divisor;
      for (double& value : out.subspan(group * width, std::min(width, out.size() - group * width)))
        value = static_cast<double>((static_cast<float>(beyond ? 2 * value : value) - zero) * scale * parts_.factor);
    }
  }

  std::optional<ScaledForm> scaled_form() const override {
    if (!parts_.kind) return std::nullopt;
    return ScaledForm{*parts_.kind, parts_.scales.dtype, parts_.scales.column_block, parts_.finite_powers};
  }
  ScaledRow scaled_row(std::int64_t row) const override {
    const std::uint64_t first = static_cast<std::uint64_t>(row) * parts_.row_bytes;
    return {parts_.codes.subspan(first, parts_.row_bytes), parts_.scales.stored_row(row), parts_.factor / parts_.divisor};
  }
  bool has_integers() const override {
    const std::int64_t group = parts_.scales.column_block;
    return parts_.integers && row_length() % 32 == 0 && (group % 16 == 0 || group >= row_length());
  }
  void read_integers(std::int64_t row, std::span<std::int8_t> codes, std::span<float> scales, std::span<float> offsets) const override {
    const auto packed = parts_.codes.subspan(static_cast<std::uint64_t>(row) * parts_.row_bytes, parts_.row_bytes);
    if (*parts_.integers == PackedIntegers::kOffset4) {
      for (std::size_t i = 0; i < codes.size() / 2; ++i) {
        const auto both = std::to_integer<int>(packed[i]);
        codes[2 * i] = static_cast<std::int8_t>((both & 15) - 8);
        codes[2 * i + 1] = static_cast<std::int8_t>((both >> 4) - 8);
      }
    } else {
      const auto flip = *parts_.integers == PackedIntegers::kOffset8 ? std::byte{0x80} : std::byte{0};
      for (std::size_t i = 0; i < codes.size(); ++i)
        codes[i] = std::bit_cast<std::int8_t>(packed[i] ^ flip);
    }
    const std::vector<float> own = parts_.scales.row(row);
    for (std::size_t i = 0; i < scales.size(); ++i) {
      const std::size_t group = i * 16 / static_cast<std::size_t>(parts_.scales.column_block);
      scales[i] = own[group];
      offsets[i] = -zero_of(row, group) * own[group];
    }
  }
  std::optional<DType> element_type() const override {
    if (!parts_.kind) return std::nullopt;
    if (*parts_.kind == ScaledCodes::kE4M3) return DType::kF8E4M3;
    return parts_.scales.dtype == DType::kF8E4M3 ? DType::kNVFP4 : DType::kMXFP4;
  }
  WeightPtr slice(std::int64_t index) const override {
    if (shape().size() < 3 || parts_.scales.row_block != 1 || !parts_.zeros.empty()) return nullptr;
    return std::make_shared<ScaledWeight>(*this, index);
  }
  ScaledWeight(const ScaledWeight& whole, std::int64_t index) : FormWeight(whole), parts_(whole.parts_) {
    const auto part = [&](std::span<const std::byte> bytes) {
      const std::uint64_t size = bytes.size() / static_cast<std::uint64_t>(whole.shape()[0]);
      return bytes.subspan(static_cast<std::uint64_t>(index) * size, size);
    };
    parts_.shape = shape();
    parts_.codes = part(parts_.codes);
    parts_.scales.bytes = part(parts_.scales.bytes);
  }
  void release() const override {
    source().release(parts_.codes);
    source().release(parts_.scales.bytes);
  }

 private:
  float zero_of(std::int64_t row, std::size_t group) const {
    if (parts_.zeros.empty()) return 0;
    const auto first =
        static_cast<std::size_t>(row / parts_.scales.row_block * parts_.scales.columns);
    return static_cast<float>(parts_.zeros[first + group]);
  }

  ScaledParts parts_;
};

}  // namespace

std::span<const std::byte> ScaleGrid::stored_row(std::int64_t row) const {
  const std::size_t size = static_cast<std::size_t>(columns) * static_cast<std::size_t>(info(dtype).block_bytes);
  return bytes.subspan(static_cast<std::size_t>(row / row_block) * size, size);
}

std::vector<float> ScaleGrid::row(std::int64_t row) const {
  std::vector<double> values(static_cast<std::size_t>(columns));
  decode(dtype, stored_row(row), values);
  return {values.begin(), values.end()};
}

Result<ScaleGrid> scale_grid(const FormFiles& files, const StoredTensor& scales,
                             std::int64_t row_block, std::int64_t column_block) {
  DType dtype = scales.dtype;
  switch (dtype) {
    case DType::kU8:
      dtype = DType::kF8E8M0;
      break;
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kF8E8M0:
    case DType::kF8E4M3:
      break;
    default:
      return form_error(files, scales,
                        "is not a tensor of scales, which are F32, F16, BF16, F8_E4M3 or E8M0");
  }
  const std::int64_t columns = scales.shape.size() < 2 ? 1 : scales.shape.back();
  return ScaleGrid{dtype, scales.bytes, columns, std::max<std::int64_t>(row_block, 1),
                   std::max<std::int64_t>(column_block, 1)};
}

Result<ScaleGrid> channel_grid(const FormFiles& files, const StoredTensor& scales,
                               const Shape& shape) {
  const std::int64_t rows = rows_of(shape);
  const Shape& grid = scales.shape;
  if (grid.empty() || (grid.size() == 1 && grid[0] == 1))
    return scale_grid(files, scales, rows, shape.back());
  if (grid.size() > 2 || grid[0] != rows) return misfit(files, scales, shape);
  const std::int64_t groups = grid.size() == 1 ? 1 : grid[1];
  if (groups < 1 || shape.back() % groups != 0) return misfit(files, scales, shape);
  return scale_grid(files, scales, 1, shape.back() / groups);
}

Result<ScaleGrid> group_grid(const FormFiles& files, const StoredTensor& scales, const Shape& shape,
                             std::int64_t group) {
  Shape expected = shape;
  expected.back() /= group;
  if (shape.back() % group != 0 || scales.shape != expected) return misfit(files, scales, shape);
  return scale_grid(files, scales, 1, group);
}

Result<float> scalar_of(const FormFiles& files, const StoredTensor& tensor) {
  const bool is_float =
      tensor.dtype == DType::kF32 || tensor.dtype == DType::kF16 || tensor.dtype == DType::kBF16;
  if (!is_float || element_count(tensor.shape) != 1)
    return form_error(files, tensor, "is not a single F32, F16 or BF16 number");
  double value = 0;
  decode(tensor.dtype, tensor.bytes, std::span(&value, 1));
  return static_cast<float>(value);
}

WeightPtr scaled_weight(const FormFiles& files, ScaledParts parts,
                        const std::vector<const StoredTensor*>& tensors) {
  return std::make_shared<ScaledWeight>(files, std::move(parts), tensors);
}

void decode_e2m1_row(std::span<const std::byte> bytes, std::span<double> out) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto both = std::to_integer<unsigned>(bytes[i / 2]);
    out[i] = static_cast<double>(
        float4_e2m1_to_float(static_cast<std::uint8_t>(i % 2 == 0 ? both & 15U : both >> 4)));
  }
}

Formed broken(std::string name, Error error, const StoredTensor& codes) {
  return {std::move(name), std::move(error), {&codes}};
}

Formed without(std::string name, const FormFiles& files, const StoredTensor& codes,
               const std::string& missing) {
  return broken(std::move(name),
                form_error(files, codes, "needs \"" + missing + "\", which is missing"), codes);
}

}  // namespace plumb
