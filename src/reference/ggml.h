// What llama.cpp's CPU backend does to values on their way into a product. Read in ggml/src/ggml-cpu of llama.cpp 0.5.0
// (ggml 0.25.3): the type traits' vec_dot_type, quantize_row_q8_0 and quantize_row_q8_K as x86 runs them.
#pragma once
#include <cstddef>
#include <optional>
#include <span>

#include "core/dtype.h"
#include "core/float_bits.h"
#include "graph/tensor.h"
#include "reference/numerics.h"

namespace plumb::reference {

inline double as_half(double value) {
  return half_to_float(float_to_half(static_cast<float>(value)));
}

// Rows of activations as they meet a weight whose elements are of `type`: float32, half and bfloat16 weights meet their own type,
// blocks meet eight-bit blocks, of 32 channels (Q8_0) or of 256 (Q8_K); of our cpu executor, of 64 with a float32 scale, and with
// 16-bit products half and bfloat16 weights meet codes of 16 bits (int16.h). `width` is the length of a weight's row.
Tensor as_operand(const Tensor& x, std::optional<DType> type, std::int64_t width, const Numerics& numerics);

// Types whose products our cpu executor takes in int8 (cpu/matrix.h, Matrix::quantised).
bool is_cpu_int8(DType type);

// Q4_1 and Q5_1 meet Q8_1: what their minima multiply is a block's sum, rounded to half. What that adds to the sum over the
// operand, for each block of 32 channels; empty for other types.
Tensor sum_roundings(const Tensor& x, std::optional<DType> type, std::int64_t width);

// sum over blocks of a row's minimum times the rounding of the sum.
double minima_times(std::span<const std::byte> row, DType type, const double* roundings);

// GELU's table: of x in half, its result in half; the tails beyond 10 are exact.
double table_gelu(double x);

}  // namespace plumb::reference
