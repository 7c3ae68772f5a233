// Rotary position embedding. https://arxiv.org/abs/2104.09864; roundings as in transformers'
// apply_rotary_pos_emb: the angle in float32, cos and sin cast to the activation dtype, each
// product and their sum rounded to it. Some models keep the products or also cos and sin in float32.
#include "graph/rope.h"

#include <cmath>

#include "reference/kernels.h"

namespace plumb::reference {
namespace {

struct Table {
  std::vector<double> cos;  // [dims / 2]
  std::vector<double> sin;
};

// mlx holds tables and products in the activation dtype for every model (mlx/fast.cpp, rope's fallback).
double held(WeightPrecision precision, double value, const Numerics& numerics) {
  return precision == WeightPrecision::kFloat32 && !numerics.mlx() ? numerics.single(value)
                                                : numerics.activation(value);
}

Table table_at(const Rope& op, const std::vector<double>& inv_freq, double position,
               const Numerics& numerics) {
  Table table;
  const double factor = numerics.mlx() ? 1 : op.attention_factor;
  const double sign = op.direction == RopeDirection::kInverse ? -1 : 1;
  for (const double frequency : inv_freq) {
    // In float32 the product is rounded before cos: at large positions that moves the angle
    // visibly.
    const double angle = numerics.single(numerics.single(position) * numerics.single(frequency));
    const double cos = numerics.single(numerics.single(std::cos(angle)) * factor);
    const double sin = numerics.single(numerics.single(std::sin(angle)) * factor);
    table.cos.push_back(held(op.tables, cos, numerics));
    table.sin.push_back(sign * held(op.tables, sin, numerics));
  }
  return table;
}

void rotate(const Rope& op, const Table& table, const Numerics& numerics, std::span<double> slice) {
  const std::size_t half = table.cos.size();
  const auto product = [&](double x, double factor) {
    return held(op.arithmetic, x * factor, numerics);
  };
  for (std::size_t i = 0; i < half; ++i) {
    const bool split = op.pairing == RopePairing::kHalfSplit;
    double& a = slice[split ? i : 2 * i];
    double& b = slice[split ? i + half : 2 * i + 1];
    if (numerics.mlx() && op.attention_factor != 1) {  // mlx-lm scales what it rotates, not the tables
      a = numerics.activation(a * numerics.activation(op.attention_factor));
      b = numerics.activation(b * numerics.activation(op.attention_factor));
    }
    const double first = numerics.activation(product(a, table.cos[i]) - product(b, table.sin[i]));
    b = numerics.activation(product(b, table.cos[i]) + product(a, table.sin[i]));
    a = first;
  }
}

}  // namespace

Outputs run(const Rope& op, const StageOperands& operands, const StageContext& context) {
  const Tensor& x = *operands.inputs[0];
  const Tensor& positions = *operands.inputs[1];
  const Numerics& numerics = context.numerics;
  const auto inv_freq =
      numerics.exact() ? inverse_frequencies<double>(op.frequencies, op.dims, context.known_length)
                       : inverse_frequencies<float>(op.frequencies, op.dims, context.known_length);
  const auto dims = static_cast<std::size_t>(op.dims);
  const auto head_dim = static_cast<std::size_t>(x.shape.back());
  const std::size_t first = op.slice == RopeSlice::kFirst ? 0 : head_dim - dims;
  Tensor y = x;
  for (std::int64_t t = 0; t < x.tokens(); ++t) {
    const double position =
        positions.data[static_cast<std::size_t>(t)] + static_cast<double>(op.position_offset);
    const Table table = table_at(op, inv_freq, position, numerics);
    const auto row = y.row(t);
    for (std::size_t head = 0; head + head_dim <= row.size(); head += head_dim) {
      rotate(op, table, numerics, row.subspan(head + first, dims));
    }
  }
  return {std::move(y)};
}

}  // namespace plumb::reference
