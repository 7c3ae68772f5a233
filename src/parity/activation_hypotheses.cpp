// Functions inside a gate that no published configuration of ours asks for, and engines have: transformers, activations.py, ACT2CLS.
#include <algorithm>
#include <cmath>

#include "graph/builder.h"
#include "parity/computing.h"
#include "parity/more_hypotheses.h"
#include "reference/kernels.h"

namespace plumb {
namespace {

struct Function {
  const char* name;
  double (*of)(double x);
};

constexpr Function kFunctions[] = {
    {"none", [](double x) { return x; }},
    {"relu2", [](double x) { return std::max(x, 0.0) * std::max(x, 0.0); }},
    {"leaky_relu", [](double x) { return x < 0 ? 0.01 * x : x; }},
    {"hardswish", [](double x) { return x * std::clamp(x / 6 + 0.5, 0.0, 1.0); }},
    {"mish", [](double x) { return x * std::tanh(reference::softplus(x)); }},
    {"tanh", [](double x) { return std::tanh(x); }},
};

// f(gate) * (up + offset) of one element, clamped as the convention says.
double gated_by(const Function& f, const Gated& op, double gate, double up, const Numerics& numerics) {
  if (op.limit) {
    const double limit = *op.limit;
    if (op.limit_sides != ClampSides::kUpAlone) gate = std::min(gate, limit);
    if (op.limit_sides == ClampSides::kGateBoth) gate = std::max(gate, -limit);
    if (op.limit_sides != ClampSides::kGateAlone) up = std::clamp(up, -limit, limit);
  }
  return numerics.activation(numerics.activation(f.of(gate)) * numerics.activation(up + op.up_offset));
}

// The stage's own shape rules: a gate of one number serves all channels of its part.
Computation of_gated(const Function& f) {
  return [f](const Stage& stage, const StageOperands& operands, const StageContext& context) {
    Tensor y = *operands.inputs[1];
    const Tensor& gate = *operands.inputs[0];
    const std::size_t shared = y.data.size() / std::max<std::size_t>(gate.data.size(), 1);
    for (std::size_t i = 0; i < y.data.size(); ++i)
      y.data[i] = gated_by(f, std::get<Gated>(stage.operation), gate.data[i / shared], y.data[i], context.numerics);
    return Outputs{std::move(y)};
  };
}

// Each expert's tokens through its gate, up and down, each with its bias where there are any.
Computation of_experts(const Function& f) {
  return [f](const Stage& stage, const StageOperands& operands, const StageContext& context) {
    const auto& op = std::get<Experts>(stage.operation);
    const Tensor& x = *operands.inputs[0];
    const Tensor& ids = *operands.inputs[1];
    const Tensor& weights = *operands.inputs[2];
    const Numerics& numerics = context.numerics;
    const std::size_t each = op.bias ? 2 : 1;
    Tensor out(x.shape);
    for (std::int64_t expert = 0; expert < op.experts; ++expert) {
      std::vector<std::pair<std::int64_t, double>> chosen;  // token, weight
      for (std::int64_t t = 0; t < x.tokens(); ++t) {
        for (std::size_t i = 0; i < ids.row(t).size(); ++i) {
          if (static_cast<std::int64_t>(ids.row(t)[i]) == expert) chosen.emplace_back(t, weights.row(t)[i]);
        }
      }
      if (chosen.empty()) continue;
      const auto count = static_cast<std::int64_t>(chosen.size());
      const auto project = [&](const Tensor& from, std::size_t which, std::int64_t width) {
        const std::size_t at = static_cast<std::size_t>(expert) * 3 * each + which * each;
        Tensor to({count, width});
        reference::multiply(from, *operands.weights[at], op.bias ? operands.weights[at + 1] : nullptr, WeightOrder::kOutIn, context, to,
                            WeightPrecision::kActivation);
        return to;
      };
      Tensor taken({count, x.width()});
      for (std::int64_t i = 0; i < count; ++i)
        std::ranges::copy(x.row(chosen[static_cast<std::size_t>(i)].first), taken.row(i).begin());
      const Tensor gates = project(taken, 0, op.width);
      Tensor hidden = project(taken, 1, op.width);
      for (std::size_t i = 0; i < hidden.data.size(); ++i)
        hidden.data[i] = gated_by(f, op.gated, gates.data[i], hidden.data[i], numerics);
      const Tensor y = project(hidden, 2, x.width());
      for (std::int64_t i = 0; i < count; ++i) {
        const auto& [token, weight] = chosen[static_cast<std::size_t>(i)];
        for (std::size_t d = 0; d < y.row(i).size(); ++d)
          out.row(token)[d] = numerics.activation(out.row(token)[d] + numerics.activation(y.row(i)[d] * weight));
      }
    }
    return Outputs{std::move(out)};
  };
}

// GELU as x sigmoid(1.702 x): what configurations call quick_gelu.
constexpr double kQuickGelu = 1.702;

Gated* gated_of(Operation& operation) {
  if (auto* gated = std::get_if<Gated>(&operation)) return gated;
  auto* experts = std::get_if<Experts>(&operation);
  return experts != nullptr ? &experts->gated : nullptr;
}

void quick_gelu(const Stage& stage, std::vector<Hypothesis>& list) {
  Operation own = stage.operation;
  const Gated* gated = gated_of(own);
  if (gated == nullptr || gated->activation == Activation::kSilu) return;  // of silu the slope is a field
  list.push_back({.row = "49",
                  .field = "gated.activation",
                  .cause = "the activation function is another",
                  .expected = std::string("as stated"),
                  .found = std::string("quick_gelu"),
                  .range = std::nullopt,
                  .apply =
                      [](const BoundGraph& network, int index, double, Patch& patch) {
                        Gated* changed = gated_of(patched_stage(network, index, patch).operation);
                        if (changed == nullptr) return false;
                        changed->activation = Activation::kSilu;
                        changed->sigmoid_slope = kQuickGelu;
                        return true;
                      },
                  .rarity = 0.5});
}

}  // namespace

std::vector<Hypothesis> activation_hypotheses(const BoundGraph& network, int index) {
  const Stage& stage = stage_at(network, index);
  std::vector<Hypothesis> list;
  quick_gelu(stage, list);
  for (const Function& f : kFunctions) {
    const CauseName name{"49", "gated.activation", "the activation function is another", std::string("as stated"), std::string(f.name)};
    if (std::holds_alternative<Gated>(stage.operation)) list.push_back(computing<Gated>(name, of_gated(f)));
    if (std::holds_alternative<Experts>(stage.operation)) list.push_back(computing<Experts>(name, of_experts(f)));
  }
  return list;
}

}  // namespace plumb
