// Rotary position embedding, https://arxiv.org/abs/2104.09864. Tables as transformers computes them in float32: the angle is
// rounded before cos and sin. One table serves all layers of a pass that rotate alike.
#include "graph/rope.h"

#include <algorithm>
#include <cmath>

#include "cpu/ops/ops.h"

namespace plumb::cpu {
namespace {

RotaryTable table_of(const Rope& op, const Array& positions, const Context& context) {
  const auto half = static_cast<std::size_t>(op.dims / 2);
  const float sign = op.direction == RopeDirection::kInverse ? -1.0F : 1.0F;
  RotaryTable table;
  table.cos.resize(half * static_cast<std::size_t>(positions.rows()));
  table.sin.resize(table.cos.size());
  std::size_t at = 0;
  std::int64_t row = 0;
  for (std::size_t s = 0; s < context.segments.size(); ++s) {
    const auto frequencies =
        inverse_frequencies<float>(op.frequencies, op.dims, context.segments[s].known_length);
    const std::int64_t end = row + rows_of(positions, context, s);
    for (; row < end; ++row) {
      const float position = positions.row(row)[0] + static_cast<float>(op.position_offset);
      for (std::size_t i = 0; i < half; ++i, ++at) {
        const double angle = position * static_cast<float>(frequencies[i]);
        const auto factor = op.attention_factor;
        table.cos[at] = static_cast<float>(static_cast<float>(std::cos(angle)) * factor);
        table.sin[at] = sign * static_cast<float>(static_cast<float>(std::sin(angle)) * factor);
      }
    }
  }
  return table;
}

void rotate(const Rope& op, const float* cos, const float* sin, float* slice) {
  const std::int64_t half = op.dims / 2;
  if (op.pairing == RopePairing::kHalfSplit) {
    for (std::int64_t i = 0; i < half; ++i) {
      const float a = slice[i];
      const float b = slice[i + half];
      slice[i] = a * cos[i] - b * sin[i];
      slice[i + half] = b * cos[i] + a * sin[i];
    }
    return;
  }
  for (std::int64_t i = 0; i < half; ++i) {
    const float a = slice[2 * i];
    const float b = slice[2 * i + 1];
    slice[2 * i] = a * cos[i] - b * sin[i];
    slice[2 * i + 1] = b * cos[i] + a * sin[i];
  }
}

}  // namespace

Outputs run(const Rope& op, const Operands& operands, const Context& context) {
  const Array& x = *operands.inputs[0];
  const Array& positions = *operands.inputs[1];
  const auto same = std::find_if(context.same_rope->begin(), context.same_rope->end(),
                                 [&](const auto& pair) { return pair.first == &op; });
  const Rope* shared = same == context.same_rope->end() ? &op : same->second;
  auto found = context.tables->find({shared, &positions});
  if (found == context.tables->end())
    found = context.tables->emplace(std::pair(shared, &positions), table_of(op, positions, context)).first;
  const RotaryTable& table = found->second;

  Array y = array_like(x, Shape(x.shape.begin() + 1, x.shape.end()), context);
  const std::int64_t head_dim = x.shape.back();
  const std::int64_t first = op.slice == RopeSlice::kFirst ? 0 : head_dim - op.dims;
  for_rows(context, x.rows(), x.width() * 2, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      std::copy_n(x.row(t), x.width(), y.row(t));
      const std::size_t at = static_cast<std::size_t>(t * (op.dims / 2));
      for (std::int64_t head = 0; head < x.width(); head += head_dim)
        rotate(op, table.cos.data() + at, table.sin.data() + at, y.row(t) + head + first);
    }
  });
  return one(std::move(y));
}

}  // namespace plumb::cpu
