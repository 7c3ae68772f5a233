// Weights whose value is (code - zero point) * scale, one scale for a rectangle of codes: what FP8,
// MXFP4, NVFP4 and the integer forms share.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/forms/form.h"

namespace plumb {

// Entry (r, c) holds for rows [r * row_block, …) and columns [c * column_block, …) of the codes. The last rectangle of a row
// or column is cut at the edge, never stretched.
struct ScaleGrid {
  DType dtype;  // a U8 tensor of scales holds E8M0
  std::span<const std::byte> bytes;
  std::int64_t columns;
  std::int64_t row_block;
  std::int64_t column_block;

  // The grid's row for row `row` of the codes.
  std::span<const std::byte> stored_row(std::int64_t row) const;
  // The same in float32.
  std::vector<float> row(std::int64_t row) const;
};

// The grid of `scales` over `shape`, of which the last axis is the row's; an error when the dtype cannot be a scale's.
// `row_block` and `column_block` are checked against the shape by the caller.
Result<ScaleGrid> scale_grid(const FormFiles& files, const StoredTensor& scales,
                             std::int64_t row_block, std::int64_t column_block);

// One scale for the tensor ([], [1]), for each row ([out, 1], [out]) or for each group of a row ([out, groups]). An error for
// every other shape.
Result<ScaleGrid> channel_grid(const FormFiles& files, const StoredTensor& scales,
                               const Shape& shape);

// One scale for each `group` elements of the last axis: [..., columns / group].
Result<ScaleGrid> group_grid(const FormFiles& files, const StoredTensor& scales, const Shape& shape,
                             std::int64_t group);

// A scalar tensor ([] or [1]) of F32, F16 or BF16.
Result<float> scalar_of(const FormFiles& files, const StoredTensor& tensor);

// Integers, as a row of codes packs them.
enum class PackedIntegers : std::uint8_t {
  kSigned8,  // bytes
  kOffset8,  // bytes, 128 more than meant
  kOffset4,  // nibbles, the first the low one, 8 more than meant
};

struct ScaledParts {
  Shape shape;  // of the parameter
  std::string format;
  std::span<const std::byte> codes;
  std::uint64_t row_bytes;  // of codes
  // The codes of one row as numbers; out.size() is the row's length.
  void (*decode_row)(std::span<const std::byte> bytes, std::span<double> out);
  ScaleGrid scales;
  // Applied in float32: w = code * scale * factor, or w = code * (scale / divisor).
  float factor = 1;
  float divisor = 1;
  std::vector<std::int8_t> zeros = {};  // empty, or as many as there are scales
  std::optional<ScaledCodes> kind = std::nullopt;
  bool finite_powers = false;  // as ScaledForm says
  std::optional<PackedIntegers> integers = std::nullopt;
};

WeightPtr scaled_weight(const FormFiles& files, ScaledParts parts,
                        const std::vector<const StoredTensor*>& tensors);

// E2M1, two a byte: element 2 j in the low nibble of byte j, 2 j + 1 in the high one.
void decode_e2m1_row(std::span<const std::byte> bytes, std::span<double> out);

// A parameter whose tensors do not fit, or that its scale is missing.
Formed broken(std::string name, Error error, const StoredTensor& codes);
Formed without(std::string name, const FormFiles& files, const StoredTensor& codes,
               const std::string& missing);

}  // namespace plumb
