// Causal depthwise convolution with a window of earlier tokens. Reference: transformers,
// models/qwen3_5/modeling_qwen3_5.py, causal_conv1d_fn and causal_conv1d_update: the sum is rounded
// to the activation dtype, then the activation is. Every token walks its taps from the oldest to
// its own, so a result does not depend on the chunk that the token came in.
#include <algorithm>

#include "core/check.h"
#include "reference/kernels.h"

namespace plumb::reference {
namespace {

// The window's rows, then x's.
Tensor joined(const Tensor& window, const Tensor& x) {
  Tensor all({window.tokens() + x.tokens(), window.width()});
  std::ranges::copy(x.data, std::ranges::copy(window.data, all.data.begin()).out);
  return all;
}

void keep_last(Tensor& window, const Tensor& rows) {
  const std::int64_t first = rows.tokens() - window.tokens();
  for (std::int64_t i = 0; i < window.tokens(); ++i)
    std::ranges::copy(rows.row(first + i), window.row(i).begin());
}

}  // namespace

Outputs run(const Convolution& op, const StageOperands& operands, const StageContext& context) {
  const Numerics& numerics = context.numerics;
  auto& window = std::get<ConvolutionWindow>(*operands.states[0]).rows;
  const auto taps = static_cast<std::size_t>(op.taps);
  const auto weight = read_vector(*operands.weights[0], numerics);  // [channels, taps]
  const auto bias = op.bias ? read_vector(*operands.weights[1], numerics) : std::vector<double>{};
  const auto activate = [&](double value) {
    return rounded_activation(op.activation, 1, value, numerics);
  };

  Tensor x = *operands.inputs[0];
  if (op.activation_place == ActivationPlace::kBefore)
    std::ranges::transform(x.data, x.data.begin(), activate);
  Tensor rows = joined(window, x);
  Tensor y(x.shape);
  const auto channels = static_cast<std::size_t>(x.width());
  PLUMB_CHECK(weight.size() == channels * taps && rows.tokens() >= op.taps - 1);
  for (std::int64_t t = 0; t < x.tokens(); ++t) {
    for (std::size_t c = 0; c < channels; ++c) {
      double sum = bias.empty() ? 0 : bias[c];
      for (std::size_t i = 0; i < taps; ++i) {
        const std::size_t tap = op.order == TapOrder::kNewestLast ? i : taps - 1 - i;
        sum += weight[c * taps + tap] * rows.row(t + static_cast<std::int64_t>(i))[c];
      }
      const double value = numerics.activation(sum);
      y.row(t)[c] = op.activation_place == ActivationPlace::kAfter ? activate(value) : value;
    }
  }
  if (op.window == WindowHolds::kNothing) return {std::move(y)};
  if (op.window == WindowHolds::kOutputs)
    std::ranges::copy(y.data, rows.data.end() - static_cast<std::ptrdiff_t>(y.data.size()));
  keep_last(window, rows);
  return {std::move(y)};
}

}  // namespace plumb::reference
