// Norms, gates, sums: what happens to each token's vector on its own.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/check.h"
#include "reference/ggml.h"
#include "reference/kernels.h"

namespace plumb::reference {

double held_as(ScalePrecision precision, double value, const Numerics& numerics) {
  switch (precision) {
    case ScalePrecision::kActivation:
      return numerics.activation(value);
    case ScalePrecision::kBfloat16:
      return round_to_bfloat16(static_cast<float>(value));
    case ScalePrecision::kFloat32:
      return numerics.single(value);
  }
  return value;
}

double softplus(double x) {
  return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x)));
}

double activation_of(Activation activation, double slope, double x) {
  constexpr double kSqrtHalf = 0.70710678118654752440;
  constexpr double kSqrtTwoOverPi = 0.79788456080286535588;
  switch (activation) {
    case Activation::kSilu:
    case Activation::kSteppedSilu:
      return x / (1 + std::exp(-slope * x));
    case Activation::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(kSqrtTwoOverPi * (x + 0.044715 * x * x * x)));
    case Activation::kGeluErf:
      return 0.5 * x * (1 + std::erf(x * kSqrtHalf));
    case Activation::kRelu:
      return std::max(x, 0.0);
    case Activation::kSigmoid:
      return 1 / (1 + std::exp(-x));
  }
  return x;
}

void normalise(const Norm& op, std::span<const double> x, std::span<const double> weight,
               const Numerics& numerics, std::span<double> y) {
  const auto n = static_cast<double>(x.size());
  double mean = 0;
  if (op.centre == NormCentre::kMean) {
    for (const double value : x)
      mean += value;
    mean /= n;
  }
  double squares = 0;
  for (const double value : x)
    squares += (value - mean) * (value - mean);
  const double inverse = op.eps_place == EpsPlace::kInsideRoot
                             ? 1 / std::sqrt(squares / n + op.eps)
                             : 1 / (std::sqrt(squares / n) + op.eps);
  // mx.fast.rms_norm has one order of roundings for every model, and is given 1 + w in the activation dtype.
  const Rounding rounding = numerics.mlx() ? Rounding::kBeforeWeight : op.rounding;
  const double factor = rounding == Rounding::kFactor ? numerics.activation(inverse) : inverse;
  for (std::size_t i = 0; i < x.size(); ++i) {
    double value = numerics.single((x[i] - mean) * factor);
    if (rounding == Rounding::kBeforeWeight) value = numerics.activation(value);
    double gain = weight.empty() ? 1 : weight[i] + op.weight_offset;
    if (numerics.mlx()) gain = numerics.activation(gain);
    y[i] = numerics.activation(value * gain);
  }
}

namespace {

// mlx/backend/cpu/unary_ops.h: the exponential of |x| is rounded, the rest of a sigmoid is not.
double mlx_sigmoid(double x, const Numerics& numerics) {
  const double small = numerics.single(1 / numerics.single(1 + numerics.activation(std::exp(std::abs(x)))));
  return numerics.activation(x < 0 ? small : 1 - small);
}

// mlx.nn's functions, every operation's result of the activation dtype.
double mlx_activation(Activation activation, double slope, double x, const Numerics& numerics) {
  const auto r = [&](double value) { return numerics.activation(value); };
  switch (activation) {
    case Activation::kSilu:
    case Activation::kSteppedSilu:
      return r(x * mlx_sigmoid(slope == 1 ? x : r(r(slope) * x), numerics));
    case Activation::kGeluTanh: {
      const double cubed = r(r(0.044715) * r(x * x * x));
      const double inner = r(r(std::sqrt(2 / std::numbers::pi)) * r(x + cubed));
      return r(r(0.5 * x) * r(1 + r(std::tanh(inner))));
    }
    case Activation::kGeluErf:
      return r(r(x * r(1 + r(std::erf(r(x / r(std::numbers::sqrt2)))))) / 2);
    case Activation::kSigmoid:
      return mlx_sigmoid(x, numerics);
    case Activation::kRelu:
      break;
  }
  return r(activation_of(activation, slope, x));
}

}  // namespace

double rounded_activation(Activation activation, double slope, double x, const Numerics& numerics) {
  if (numerics.mlx()) return mlx_activation(activation, slope, x, numerics);
  if (numerics.ggml() && activation == Activation::kGeluTanh) return table_gelu(x);
  return numerics.activation(activation_of(activation, slope, x));
}

namespace {

// activation(x) as the gate's module rounds it.
double activated(const Gated& op, double x, const StageContext& context) {
  const Numerics& numerics = context.numerics;
  if (context.gate_function != nullptr) return numerics.activation(context.gate_function(x));
  if (op.activation != Activation::kSteppedSilu || numerics.mlx() || numerics.ggml())
    return rounded_activation(op.activation, op.sigmoid_slope, x, numerics);
  const double sloped = numerics.activation(op.sigmoid_slope * x);  // GptOssExperts._apply_gate
  return numerics.activation(x *
                             numerics.activation(activation_of(Activation::kSigmoid, 1, sloped)));
}

}  // namespace

double gate(const Gated& op, double gate, double up, const StageContext& context) {
  if (op.limit) {
    const double limit = *op.limit;
    if (op.limit_sides != ClampSides::kUpAlone) gate = std::min(gate, limit);
    if (op.limit_sides == ClampSides::kGateBoth) gate = std::max(gate, -limit);
    if (op.limit_sides != ClampSides::kGateAlone) up = std::min(up, limit);
    if (op.limit_sides != ClampSides::kGateAlone && op.limit_sides != ClampSides::kUpAbove) up = std::max(up, -limit);
  }
  if (op.up_offset != 0) up = context.numerics.activation(up + op.up_offset);
  return context.numerics.activation(activated(op, gate, context) * up);
}

Outputs run(const Norm& op, const StageOperands& operands, const StageContext& context) {
  const Tensor& x = *operands.inputs[0];
  const Numerics of_weight =
      op.rounding == Rounding::kAfterFloat32Weight ? Numerics(Precision::kFp32) : context.numerics;
  const auto weight = operands.weights.empty() ? std::vector<double>{}
                                               : read_vector(*operands.weights[0], of_weight);
  Tensor y(x.shape);
  const auto span =
      static_cast<std::size_t>(op.span == NormSpan::kToken ? x.width() : x.shape.back());
  // A weight of another size than the span is a hypothesis (row 39): one head's repeats, a token's gives each head its part.
  const auto width = static_cast<std::size_t>(x.width());
  PLUMB_CHECK(span > 0 && (weight.empty() || width % weight.size() == 0));
  std::vector<double> repeated;
  if (!weight.empty()) {
    for (std::size_t i = 0; i < width; ++i)
      repeated.push_back(weight[i % weight.size()]);
  }
  for (std::size_t first = 0; first + span <= x.data.size(); first += span) {
    normalise(op, std::span(x.data).subspan(first, span),
              repeated.empty() ? std::span<const double>()
                               : std::span<const double>(repeated).subspan(first % width, span),
              context.numerics, std::span(y.data).subspan(first, span));
  }
  return {std::move(y)};
}

Outputs run(const Gated& op, const StageOperands& operands, const StageContext& context) {
  const Tensor& g = *operands.inputs[0];
  const Tensor& up = *operands.inputs[1];
  Tensor y(up.shape);
  const std::size_t shared = g.data.empty() ? 1 : up.data.size() / g.data.size();
  for (std::size_t i = 0; i < y.data.size(); ++i)
    y.data[i] = gate(op, g.data[i / shared], up.data[i], context);
  return {std::move(y)};
}

Outputs run(const Activate& op, const StageOperands& operands, const StageContext& context) {
  Tensor y = *operands.inputs[0];
  for (double& value : y.data)
    value = rounded_activation(op.activation, 1, value, context.numerics);
  return {std::move(y)};
}

Outputs run(const Add& op, const StageOperands& operands, const StageContext& context) {
  const Tensor& x = *operands.inputs[0];
  const Tensor& branch = *operands.inputs[1];
  const Numerics& numerics = context.numerics;
  Tensor y(x.shape);
  for (std::size_t i = 0; i < y.data.size(); ++i) {
    const double term =
        op.factor == 1 ? branch.data[i] : numerics.activation(op.factor * branch.data[i]);
    y.data[i] = numerics.activation(x.data[i] + term);
  }
  return {std::move(y)};
}

Outputs run(const Clamp& op, const StageOperands& operands, const StageContext& context) {
  const Tensor& x = *operands.inputs[0];
  const double limit = context.numerics.activation(op.limit);
  Tensor y(x.shape);
  for (std::size_t i = 0; i < y.data.size(); ++i)
    y.data[i] = std::clamp(x.data[i], -limit, limit);
  return {std::move(y)};
}

}  // namespace plumb::reference
