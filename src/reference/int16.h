// How our cpu executor rounds attention where its products are from integers of 16 bits (cpu/kernels/attend_int16.inc): rows of
// queries and keys to codes of a given length, rows of values to codes of a given largest, and in each block of 64 positions the
// probabilities times the values' scales to codes of 12 bits.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "graph/tensor.h"

namespace plumb::reference {

enum class Int16Rows : std::uint8_t { kByLength, kByLargest };

// Each row of `width` elements becomes its codes times their scale.
void round_int16(std::span<double> values, std::int64_t width, Int16Rows rows);

// sum[d] of values weighted by the softmax of `scores`, with a running largest over blocks of 64 positions from 0. `position` is the
// first key's; value_of(j) is key j's row, rounded by its largest.
void gather_int16(std::span<const double> scores, std::optional<double> sink, std::int64_t position,
                  const std::function<const double*(std::size_t)>& value_of, std::span<double> sum);

}  // namespace plumb::reference
