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

Computation gated_by(const Function& f) {
  return [f](const Stage& stage, const StageOperands& operands, const StageContext& context) {
    StageContext other = context;
    other.gate_function = f.of;
    return run_stage(stage, operands, other);
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
    if (std::holds_alternative<Gated>(stage.operation)) list.push_back(computing<Gated>(name, gated_by(f)));
    if (std::holds_alternative<Experts>(stage.operation)) list.push_back(computing<Experts>(name, gated_by(f)));
  }
  return list;
}

}  // namespace plumb
