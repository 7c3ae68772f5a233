// What the official DeepSeek-V4 does to cached values and transformers does not: a rotation by a
// Hadamard matrix and a passage through eight or four bits. Reference: DeepSeek's inference/kernel.py.
#include <algorithm>
#include <cmath>

#include "graph/narrow.h"
#include "reference/kernels.h"

namespace plumb::reference {

Outputs run(const Narrow& op, const StageOperands& operands, const StageContext& context) {
  const Numerics& numerics = context.numerics;
  const NarrowFormat format = narrow_format(op.format);
  Tensor y = *operands.inputs[0];
  const auto width = static_cast<std::size_t>(y.shape.back());
  const auto channels = static_cast<std::size_t>(op.channels);
  const auto size = static_cast<std::size_t>(op.block);
  for (std::size_t head = 0; head + width <= y.data.size(); head += width) {
    for (std::size_t first = 0; first < channels; first += size) {
      const auto block = std::span(y.data).subspan(head + first, std::min(size, channels - first));
      double largest = op.floor;
      for (const double value : block)
        largest = std::max(largest, std::abs(value));
      const double scale = least_power_of_two(numerics.single(largest / format.largest));
      for (double& value : block)
        value = numerics.activation(round_to_narrow(format, value / scale) * scale);
    }
  }
  return {std::move(y)};
}

Outputs run(const Hadamard&, const StageOperands& operands, const StageContext& context) {
  Tensor y = *operands.inputs[0];
  const auto n = static_cast<std::size_t>(y.shape.back());
  const double scale = 1 / std::sqrt(static_cast<double>(n));
  for (std::size_t first = 0; first + n <= y.data.size(); first += n) {
    const auto row = std::span(y.data).subspan(first, n);
    for (std::size_t half = 1; half < n; half *= 2) {
      for (std::size_t i = 0; i < n; ++i) {
        if ((i & half) != 0) continue;
        const double a = row[i];
        const double b = row[i + half];
        row[i] = a + b;
        row[i + half] = a - b;
      }
    }
    for (double& value : row)
      value = context.numerics.activation(value * scale);
  }
  return {std::move(y)};
}

}  // namespace plumb::reference
