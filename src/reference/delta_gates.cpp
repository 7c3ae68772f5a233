// What surrounds the gated delta rule: unit vectors, decays, and the norm with a gate. Reference:
// transformers, models/qwen3_5/modeling_qwen3_5.py, l2norm, Qwen3_5GatedDeltaNet.forward and
// Qwen3_5RMSNormGated: unit vectors and decays stay in float32, the gate's silu too.
#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "reference/kernels.h"

namespace plumb::reference {
namespace {

double inverse_length(const L2Norm& op, std::span<const double> x) {
  double sum = 0;
  for (const double value : x)
    sum += value * value;
  switch (op.eps_place) {
    case L2Eps::kAddToSum:
      return 1 / std::sqrt(sum + op.eps);
    case L2Eps::kAddToMean:
      return 1 / std::sqrt(sum + static_cast<double>(x.size()) * op.eps);
    case L2Eps::kLeastNorm:
      return 1 / std::max(std::sqrt(sum), op.eps);
  }
  return 1;
}

}  // namespace

Outputs run(const L2Norm& op, const StageOperands& operands, const StageContext& context) {
  const Tensor& x = *operands.inputs[0];
  const Numerics& numerics = context.numerics;
  const auto hold = [&](double value) {
    return op.precision == WeightPrecision::kActivation ? numerics.activation(value)
                                                        : numerics.single(value);
  };
  Tensor y(x.shape);
  const auto span = static_cast<std::size_t>(x.shape.back());
  const double root = std::sqrt(static_cast<double>(span));
  for (std::size_t first = 0; first < x.data.size(); first += span) {
    const double inverse = inverse_length(op, std::span(x.data).subspan(first, span));
    for (std::size_t i = first; i < first + span; ++i) {
      if (numerics.mlx()) {  // gated_delta.normalize_qk: an RMSNorm, then the rest of the factor
        const double normed = numerics.activation(x.data[i] * inverse * root);
        y.data[i] = numerics.activation(normed * numerics.activation(op.scale / root));
        continue;
      }
      y.data[i] = hold(x.data[i] * inverse);
      if (op.scale != 1) y.data[i] = hold(y.data[i] * op.scale);
    }
  }
  return {std::move(y)};
}

Outputs run(const LogDecay& op, const StageOperands& operands, const StageContext& context) {
  const Tensor& x = *operands.inputs[0];
  const Numerics& numerics = context.numerics;
  std::vector<double> rates = read_vector(*operands.weights[0], Numerics(Precision::kFp64));
  const std::vector<double> offsets = read_vector(*operands.weights[1], numerics);
  for (double& rate : rates) {
    rate = held_as(op.rate_precision, rate, numerics);
    if (op.rate == DecayRate::kMinusExp) rate = -numerics.single(std::exp(rate));
  }
  Tensor y(x.shape);
  for (std::size_t i = 0; i < x.data.size(); ++i) {
    const std::size_t head = i % rates.size();
    const double sum = x.data[i] + offsets[head];
    const double held = op.sum_precision == WeightPrecision::kActivation || numerics.mlx() ? numerics.activation(sum)
                                                                         : numerics.single(sum);
    double soft = numerics.single(softplus(held));
    if (numerics.mlx()) {  // logaddexp(x, 0), its steps of the activation dtype
      const double power = numerics.activation(std::exp(numerics.activation(-std::abs(held))));
      soft = numerics.activation(std::max(held, 0.0) + numerics.activation(std::log1p(power)));
    }
    y.data[i] = numerics.single(rates[head] * soft);
  }
  return {std::move(y)};
}

Outputs run(const GatedNorm& op, const StageOperands& operands, const StageContext& context) {
  const Tensor& x = *operands.inputs[0];
  const Tensor& z = *operands.inputs[1];
  const Numerics& numerics = context.numerics;
  const auto span =
      static_cast<std::size_t>(op.norm.span == NormSpan::kToken ? x.width() : x.shape.back());
  auto weight = read_vector(*operands.weights[0], numerics);
  PLUMB_CHECK(!weight.empty() && span % weight.size() == 0 && z.data.size() == x.data.size());
  for (std::size_t own = weight.size();
       weight.size() < span;)  // one head's weight serves all heads
    weight.push_back(weight[weight.size() - own]);
  const auto gate_at = [&](std::size_t i) {
    const double value = activation_of(op.activation, 1, z.data[i]);  // mlx-lm: float32, precise_swiglu
    if (numerics.mlx()) return numerics.single(value);
    return op.gate_precision == WeightPrecision::kActivation ? numerics.activation(value)
                                                             : numerics.single(value);
  };
  Tensor from = x;
  if (op.place == GatePlace::kBeforeNorm) {
    for (std::size_t i = 0; i < from.data.size(); ++i)
      from.data[i] = numerics.activation(from.data[i] * gate_at(i));
  }
  Tensor y(x.shape);
  for (std::size_t first = 0; first + span <= x.data.size(); first += span) {
    normalise(op.norm, std::span(from.data).subspan(first, span), weight, numerics,
              std::span(y.data).subspan(first, span));
  }
  if (op.place == GatePlace::kAfterNorm) {
    for (std::size_t i = 0; i < y.data.size(); ++i)
      y.data[i] = numerics.activation(y.data[i] * gate_at(i));
  }
  return {std::move(y)};
}

}  // namespace plumb::reference
