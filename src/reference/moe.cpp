// Routed experts. Reference: transformers, models/qwen3_moe/modeling_qwen3_moe.py: router scores in
// float32, an expert's modules in the activation dtype, and the experts' outputs added in ascending
// order of their ids.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/check.h"
#include "reference/kernels.h"

namespace plumb::reference {

std::vector<std::size_t> largest(std::span<const double> values, std::size_t k) {
  std::vector<std::size_t> ids(values.size());
  std::iota(ids.begin(), ids.end(), std::size_t{0});
  std::stable_sort(ids.begin(), ids.end(),
                   [&](std::size_t a, std::size_t b) { return values[a] > values[b]; });
  ids.resize(k);
  return ids;
}

namespace {

double round_step(const Router& op, double value, const Numerics& numerics) {
  return op.arithmetic == WeightPrecision::kFloat32 && !numerics.mlx() ? numerics.single(value)
                                                    : numerics.activation(value);
}

void score(const Router& op, std::span<double> values, const Numerics& numerics) {
  if (op.score == RouterScore::kSoftmax) {
    const double largest = *std::max_element(values.begin(), values.end());
    double total = 0;
    for (double& value : values)
      total += value = numerics.single(std::exp(value - largest));
    // torch multiplies by the reciprocal; of two weights near a bfloat16 midpoint that decides.
    const double inverse = numerics.single(1 / numerics.single(total));
    for (double& value : values)
      value = round_step(op, value * inverse, numerics);
    return;
  }
  for (double& value : values) {
    value = op.score == RouterScore::kSigmoid
                ? round_step(op, 1 / (1 + std::exp(-value)), numerics)
                : round_step(op, std::sqrt(round_step(op, softplus(value), numerics)), numerics);
  }
}

// What the choice compares: the scores with their bias, experts outside the best groups excluded.
// DeepseekV3TopkRouter.
void prepare_choice(const Router& op, std::span<const double> bias, std::span<double> scores,
                    const Numerics& numerics) {
  for (std::size_t e = 0; e < bias.size(); ++e)
    scores[e] = numerics.single(scores[e] + bias[e]);
  if (!op.groups) return;
  const auto groups = static_cast<std::size_t>(op.groups->groups);
  const std::size_t size = scores.size() / groups;
  std::vector<double> sums(groups, 0.0);
  for (std::size_t g = 0; g < groups; ++g) {
    const auto members = scores.subspan(g * size, size);
    for (const std::size_t e : largest(members, static_cast<std::size_t>(op.groups->largest)))
      sums[g] = numerics.single(sums[g] + members[e]);
  }
  std::vector<bool> kept(groups, false);
  for (const std::size_t g : largest(sums, static_cast<std::size_t>(op.groups->chosen)))
    kept[g] = true;
  for (std::size_t e = 0; e < scores.size(); ++e) {
    if (kept[e / size]) continue;
    scores[e] =
        op.groups->excluded == ExcludedScore::kZero ? 0 : -std::numeric_limits<double>::infinity();
  }
}

// From the chosen scores to the weights of their experts.
void weigh(const Router& op, std::span<double> chosen, const Numerics& numerics) {
  double total = 1;
  if (op.renormalise) {
    total = round_step(op, std::accumulate(chosen.begin(), chosen.end(), 0.0), numerics);
    if (op.sum_epsilon != 0) total = round_step(op, total + op.sum_epsilon, numerics);
  }
  for (double& weight : chosen) {
    weight = round_step(op, weight / total, numerics);
    if (op.scale != 1) weight = round_step(op, weight * op.scale, numerics);
    if (op.precision == WeightPrecision::kActivation) weight = numerics.activation(weight);
  }
}

}  // namespace

Outputs run(const Router& op, const StageOperands& operands, const StageContext& context) {
  const Tensor& logits = *operands.inputs[0];
  const Numerics& numerics = context.numerics;
  const bool table = op.choice == RouterChoice::kTable;
  const std::vector<double> bias =
      op.selection_bias == SelectionBias::kNone
          ? std::vector<double>{}
          : read_vector(*operands.weights[0], Numerics(Precision::kFp32));
  Tensor probs = logits;
  Tensor ids = tensor_like(logits, {op.chosen});
  Tensor weights = tensor_like(logits, {op.chosen});
  const auto k = static_cast<std::size_t>(op.chosen);
  for (std::int64_t t = 0; t < logits.tokens(); ++t) {
    score(op, probs.row(t), numerics);
    const bool before = op.order == RouterOrder::kSelectThenScore;
    const auto source = before ? logits.row(t) : std::span<const double>(probs.row(t));
    if (table) {
      const double token = operands.inputs[1]->data[static_cast<std::size_t>(t)];
      operands.weights.back()->read_row(static_cast<std::int64_t>(token), ids.row(t));
    } else {
      std::vector<double> compared(source.begin(), source.end());
      prepare_choice(op, bias, compared, numerics);
      std::ranges::copy(largest(compared, k), ids.row(t).begin());
    }
    const auto chosen = weights.row(t);
    for (std::size_t i = 0; i < k; ++i) {
      const auto id = static_cast<std::size_t>(ids.row(t)[i]);
      chosen[i] = source[id];
      if (op.selection_bias == SelectionBias::kChoiceAndWeight)
        chosen[i] = round_step(op, chosen[i] + bias[id], numerics);
    }
    if (before) score(op, chosen, numerics);
    weigh(op, chosen, numerics);
  }
  return {std::move(probs), std::move(ids), std::move(weights)};
}

Outputs run(const Experts& op, const StageOperands& operands, const StageContext& context) {
  const Tensor& x = *operands.inputs[0];
  const Tensor& ids = *operands.inputs[1];
  const Tensor& weights = *operands.inputs[2];
  const Numerics& numerics = context.numerics;
  const std::size_t per_expert = op.bias ? 6 : 3;
  Tensor out(x.shape);
  for (std::int64_t e = 0; e < op.experts; ++e) {
    std::vector<std::int64_t> tokens;
    std::vector<double> factors;
    for (std::int64_t t = 0; t < x.tokens(); ++t) {
      const auto chosen = ids.row(t);
      for (std::size_t i = 0; i < chosen.size(); ++i) {
        if (static_cast<std::int64_t>(chosen[i]) != e) continue;
        tokens.push_back(t);
        factors.push_back(weights.row(t)[i]);
      }
    }
    if (tokens.empty()) continue;
    const auto count = static_cast<std::int64_t>(tokens.size());
    Tensor taken({count, x.width()});
    for (std::int64_t i = 0; i < count; ++i) {
      std::ranges::copy(x.row(tokens[static_cast<std::size_t>(i)]), taken.row(i).begin());
    }
    const auto project = [&](const Tensor& from, std::size_t which, std::int64_t width) {
      const std::size_t index =
          static_cast<std::size_t>(e) * per_expert + which * (op.bias ? 2 : 1);
      Tensor to({count, width});
      multiply(from, *operands.weights[index], nullptr, WeightOrder::kOutIn, context, to,
               WeightPrecision::kActivation);
      if (!op.bias) return to;
      // A second rounding: GptOssExperts adds the bias to the finished product.
      const std::vector<double> bias = read_vector(*operands.weights[index + 1], numerics);
      for (std::size_t i = 0; i < to.data.size(); ++i)
        to.data[i] = numerics.activation(to.data[i] + bias[i % bias.size()]);
      return to;
    };
    const Tensor gates = project(taken, 0, op.width);
    Tensor hidden = project(taken, 1, op.width);
    for (std::size_t i = 0; i < hidden.data.size(); ++i) {
      hidden.data[i] = gate(op.gated, gates.data[i], hidden.data[i], context);
    }
    const Tensor y = project(hidden, 2, x.width());
    for (std::int64_t i = 0; i < count; ++i) {
      const auto sum = out.row(tokens[static_cast<std::size_t>(i)]);
      for (std::size_t d = 0; d < sum.size(); ++d) {
        const double term = numerics.activation(y.row(i)[d] * factors[static_cast<std::size_t>(i)]);
        // mlx-lm stacks the experts' outputs and sums the stack, in float32.
        sum[d] = numerics.mlx() ? sum[d] + term : numerics.activation(sum[d] + term);
      }
    }
  }
  if (numerics.mlx()) {
    for (double& value : out.data)
      value = numerics.activation(value);
  }
  return {std::move(out)};
}

}  // namespace plumb::reference
