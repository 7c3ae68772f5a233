// What an engine may do otherwise with routed experts that no field says: how their weights enter, which table chooses.
#include <algorithm>
#include <array>
#include <cmath>

#include "graph/builder.h"
#include "parity/changed_weights.h"
#include "parity/computing.h"
#include "reference/kernels.h"

namespace plumb {
namespace {

// Biases that are not added. An expert's parameters are gate, up and down, each with its bias.
void bias_hypotheses(std::vector<Hypothesis>& list) {
  const auto without = [&](std::string cause, std::string found, std::array<bool, 3> missing) {
    list.push_back({.row = "18",
                    .field = "experts.bias",
                    .cause = std::move(cause),
                    .expected = std::string("all"),
                    .found = std::move(found),
                    .range = std::nullopt,
                    .apply =
                        [missing](const BoundGraph& network, int index, double, Patch& patch) {
                          const Stage& stage = stage_at(network, index);
                          const auto* experts = std::get_if<Experts>(&stage.operation);
                          if (experts == nullptr || !experts->bias) return false;
                          for (std::size_t i = 1; i < stage.params.size(); i += 2) {
                            if (missing[i / 2 % 3])
                              patch.weights[stage.params[i]] = scaled(network.weights[static_cast<std::size_t>(stage.params[i])], 0);
                          }
                          return true;
                        },
                    .rarity = 0.5});
  };
  without("the experts' gate and up biases are not added", "down alone", {true, true, false});
  without("the experts' down bias is not added", "gate and up alone", {false, false, true});
  without("the experts' biases are not added", "none", {true, true, true});
  list.push_back(computing<Experts>(
      {"53", "experts.bias_place", "the experts' down bias is not weighted", std::string("inside"), std::string("outside")},
      [](const Stage& s, const StageOperands& operands, const StageContext& context) {
        constexpr std::size_t kPerExpert = 6;  // gate, up and down, each with its bias
        const auto experts = static_cast<double>(std::get<Experts>(s.operation).experts);
        Outputs y = run_stage(s, operands, context);
        const Tensor& ids = *operands.inputs[1];
        const Tensor& weights = *operands.inputs[2];
        for (std::int64_t t = 0; t < ids.tokens(); ++t) {
          for (std::size_t i = 0; i < ids.row(t).size(); ++i) {
            const double id = ids.row(t)[i];
            if (!(id >= 0 && id < experts)) continue;  // what a trace says may be anything
            const auto bias = reference::read_vector(*operands.weights[static_cast<std::size_t>(id) * kPerExpert + 5], context.numerics);
            for (std::size_t d = 0; d < bias.size(); ++d)
              y[0].row(t)[d] += (1 - weights.row(t)[i]) * bias[d];
          }
        }
        return y;
      }));
}

// Each of a token's choices by itself, with other inputs or weights, added up.
Outputs one_by_one(const Stage& stage, const StageOperands& operands, const StageContext& context,
                   const std::function<void(double weight, std::span<double> x, double& used)>& change) {
  const Tensor& ids = *operands.inputs[1];
  const Tensor& weights = *operands.inputs[2];
  Tensor sum(operands.inputs[0]->shape);
  for (std::size_t i = 0; i < static_cast<std::size_t>(ids.width()); ++i) {
    Tensor x = *operands.inputs[0];
    Tensor id({ids.tokens(), 1});
    Tensor weight({ids.tokens(), 1});
    for (std::int64_t t = 0; t < ids.tokens(); ++t) {
      id.row(t)[0] = ids.row(t)[i];
      weight.row(t)[0] = weights.row(t)[i];
      change(weights.row(t)[i], x.row(t), weight.row(t)[0]);
    }
    StageOperands one = operands;
    one.inputs = {&x, &id, &weight};
    const Outputs y = run_stage(stage, one, context);
    for (std::size_t e = 0; e < sum.data.size(); ++e)
      sum.data[e] = context.numerics.activation(sum.data[e] + y[0].data[e]);
  }
  return {std::move(sum)};
}

// An up projection of nothing, and 1 in its place.
bool multiply_nothing(const BoundGraph& network, int index, double, Patch& patch) {
  Stage& stage = patched_stage(network, index, patch);
  auto* experts = std::get_if<Experts>(&stage.operation);
  if (experts == nullptr) return false;
  experts->gated.up_offset = 1;
  const std::size_t stride = experts->bias ? 2 : 1;
  for (std::size_t i = 0; i + 3 * stride <= stage.params.size(); i += 3 * stride) {
    for (std::size_t up = i + stride; up < i + 2 * stride; ++up)
      patch.weights[stage.params[up]] = constant(network.graph.params[static_cast<std::size_t>(stage.params[up])].shape, 0);
  }
  return true;
}

void expert_hypotheses(const Stage& stage, std::vector<Hypothesis>& list) {
  list.push_back({.row = "50",
                  .field = "experts.gated.up",
                  .cause = "the experts' activation stands alone: it multiplies nothing",
                  .expected = true,
                  .found = false,
                  .range = std::nullopt,
                  .apply = multiply_nothing,
                  .rarity = 1});
  if (std::get<Experts>(stage.operation).bias) bias_hypotheses(list);
  list.push_back(computing<Experts>({"51", "experts.weights", "the routing weights are not applied: the experts' outputs are added",
                                     std::string("weighted"), std::string("added")},
                                    with_rows(2, [](std::span<double> weights) { std::ranges::fill(weights, 1.0); })));
  list.push_back(computing<Experts>(
      {"51", "experts.weights", "the experts' outputs are averaged, not weighted", std::string("weighted"), std::string("averaged")},
      with_rows(2, [](std::span<double> weights) { std::ranges::fill(weights, 1.0 / static_cast<double>(weights.size())); })));
  list.push_back(computing<Experts>({"51", "experts.weights", "the routing weights multiply the experts' inputs, not their outputs",
                                     std::string("outputs"), std::string("inputs")},
                                    [](const Stage& s, const StageOperands& operands, const StageContext& context) {
                                      return one_by_one(s, operands, context, [](double weight, std::span<double> x, double& used) {
                                        for (double& value : x)
                                          value *= weight;
                                        used = 1;
                                      });
                                    }));
}

// The table is asked for another token than the one that is processed, or not at all.
void table_hypotheses(std::vector<Hypothesis>& list) {
  const auto asked_for = [&](std::string cause, std::string found, std::function<double(const Tensor& tokens, std::size_t t)> token) {
    list.push_back(
        computing<Router>({"81", "router.table", std::move(cause), std::string("the token's own id"), std::move(found)},
                          [token = std::move(token)](const Stage& s, const StageOperands& operands, const StageContext& context) {
                            if (operands.inputs.size() < 2) return run_stage(s, operands, context);
                            Tensor tokens = *operands.inputs[1];
                            const auto last = static_cast<double>(operands.weights.back()->rows() - 1);
                            for (std::size_t t = 0; t < tokens.data.size(); ++t)
                              tokens.data[t] = std::min(token(*operands.inputs[1], t), last);
                            return run_with_input(s, operands, context, 1, tokens);
                          }));
  };
  asked_for("the table of experts is asked for the token before", "the id before",
            [](const Tensor& tokens, std::size_t t) { return tokens.data[t == 0 ? 0 : t - 1]; });
  asked_for("the table of experts is asked for the next token", "the next id",
            [](const Tensor& tokens, std::size_t t) { return tokens.data[std::min(t + 1, tokens.data.size() - 1)]; });
  asked_for("the table of experts is asked for the place in the pass, not for the token", "the place in the pass",
            [](const Tensor&, std::size_t t) { return static_cast<double>(t); });
  list.push_back(computing<Router>({"81", "router.choice", "experts are chosen by score in a layer whose table chooses them",
                                    std::string("table"), std::string("largest")},
                                   [](const Stage& s, const StageOperands& operands, const StageContext& context) {
                                     Stage scored = s;
                                     std::get<Router>(scored.operation).choice = RouterChoice::kLargest;
                                     return run_stage(scored, operands, context);
                                   }));
}

void router_hypotheses(const Router& router, std::vector<Hypothesis>& list) {
  if (router.score == RouterScore::kSqrtSoftplus) {
    // The logit whose score, root and all, is the softplus of the one that is there.
    list.push_back(computing<Router>({"52", "router.score", "the scores are the softplus of the logits, without its root", std::string("sqrt_softplus"),
                                      std::string("softplus")},
                                     with_rows(0, [](std::span<double> logits) {
                                       for (double& logit : logits) {
                                         const double softplus = std::log1p(std::exp(-std::abs(logit))) + std::max(logit, 0.0);
                                         logit = std::log(std::expm1(softplus * softplus));
                                       }
                                     })));
    list.back().rarity = 0.5;
  }
  if (router.choice == RouterChoice::kTable) table_hypotheses(list);
  // A softmax of the chosen sums to one by itself; who takes other scores divides them by their sum, and changes two fields at once.
  const bool of_chosen = router.score == RouterScore::kSoftmax && router.order == RouterOrder::kSelectThenScore && !router.renormalise;
  if (of_chosen) {
    list.push_back({.row = "52",
                    .field = "router.score",
                    .cause = "the scores are sigmoids, divided by their sum",
                    .expected = std::string("softmax"),
                    .found = std::string("sigmoid over the sum"),
                    .range = std::nullopt,
                    .apply = [](const BoundGraph& network, int index, double, Patch& patch) {
                      auto* op = std::get_if<Router>(&patched_stage(network, index, patch).operation);
                      if (op == nullptr) return false;
                      op->score = RouterScore::kSigmoid;
                      op->renormalise = true;
                      return true;
                    }});
  }
  list.push_back(
      computing<Router>({"52", "router.weights", "all chosen experts have one weight", std::string("by score"), std::string("equal")},
                        [](const Stage& s, const StageOperands& operands, const StageContext& context) {
                          Outputs out = run_stage(s, operands, context);
                          const auto& op = std::get<Router>(s.operation);
                          std::ranges::fill(out[2].data, op.scale / static_cast<double>(out[2].width()));
                          return out;
                        }));
}

}  // namespace

std::vector<Hypothesis> routing_hypotheses(const BoundGraph& network, int index) {
  const Stage& stage = stage_at(network, index);
  std::vector<Hypothesis> list;
  if (std::holds_alternative<Experts>(stage.operation)) expert_hypotheses(stage, list);
  if (const auto* router = std::get_if<Router>(&stage.operation)) router_hypotheses(*router, list);
  return list;
}

}  // namespace plumb
