// How our cpu executor rounds where its products are from integers of 16 bits. Weights of two bytes and what meets them
// (cpu/kernels/int16.inc): blocks of 128 channels to codes of a given length. Attention (cpu/kernels/attend_int16.inc): rows of
// queries and keys to codes of a given length, rows of values to codes of a given largest, and in each block of 64 positions the
// probabilities times the values' scales to codes of a given sum.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "core/dtype.h"
#include "graph/executor.h"
#include "graph/tensor.h"

namespace plumb::reference {

// Types whose products are from codes of 16 bits.
bool is_cpu_int16(DType type);
// Whether an attention stage stays in float32: where the projection of its values does, whose weights are FP8, say, or integers with offsets.
bool attends_in_float(const BoundGraph& network, std::size_t stage);
// A row of such a weight, or of activations that meet it, becomes codes times their blocks' scales.
void round_int16_weights(std::span<double> row);
void round_int16_activations(std::span<double> row);

enum class Int16Rows : std::uint8_t { kByLength, kByLargest };

// Each row of `width` elements becomes its codes times their scale.
void round_int16(std::span<double> values, std::int64_t width, Int16Rows rows);

// sum[d] of values weighted by the softmax of `scores`, with a running largest over blocks of 64 positions from 0. `position` is the
// first key's; value_of(j) is key j's row, rounded by its largest.
void gather_int16(std::span<const double> scores, std::optional<double> sink, std::int64_t position,
                  const std::function<const double*(std::size_t)>& value_of, std::span<double> sum);

}  // namespace plumb::reference
