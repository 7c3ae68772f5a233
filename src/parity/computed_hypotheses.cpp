// Hypotheses that no field says and no other weight makes: the stage computes something else from the same operands.
#include <algorithm>

#include "graph/builder.h"
#include "parity/computing.h"
#include "reference/kernels.h"

namespace plumb {
namespace {

void gate_hypotheses(const std::string& role, std::vector<Hypothesis>& list) {
  list.push_back(computing<Gated>(
      {"50", "gated.present", role == "mlp.act" ? "the up projection stands alone: nothing is gated" : "the output gate is not applied",
       true, false},
      [](const Stage&, const StageOperands& operands, const StageContext&) { return Outputs{*operands.inputs[1]}; }));
  if (role == "mlp.act") {
    list.push_back(computing<Gated>({"50", "gated.up", "the activation stands alone: it multiplies nothing", true, false},
                                    [](const Stage& stage, const StageOperands& operands, const StageContext& context) {
                                      Tensor ones = *operands.inputs[1];
                                      std::ranges::fill(ones.data, 1 - std::get<Gated>(stage.operation).up_offset);
                                      return run_with_input(stage, operands, context, 1, ones);
                                    }));
  }
}

// Two equal parts of one projection, each taken where the other stands.
bool exchange_parts(const BoundGraph& network, int index, double, Patch& patch) {
  const Stage& own = stage_at(network, index);
  const auto* part = std::get_if<Slice>(&own.operation);
  for (int i = 0; part != nullptr && i < static_cast<int>(network.graph.stages.size()); ++i) {
    const Stage& other = stage_at(network, i);
    const auto* second = std::get_if<Slice>(&other.operation);
    if (i == index || second == nullptr || other.inputs[0].stage != own.inputs[0].stage || other.inputs[0].output != own.inputs[0].output ||
        second->groups != part->groups || second->first == part->first || element_count(second->out) != element_count(part->out))
      continue;
    std::get<Slice>(patched_stage(network, index, patch).operation).first = second->first;
    std::get<Slice>(patched_stage(network, i, patch).operation).first = part->first;
    return true;
  }
  return false;
}

void slice_hypotheses(const BoundGraph& network, int index, std::vector<Hypothesis>& list) {
  const Stage& stage = stage_at(network, index);
  add_where_it_applies(network, index, list,
                       {.row = "14",
                        .field = "slice.order",
                        .cause = "two parts of a fused projection are exchanged",
                        .expected = std::string("in their order"),
                        .found = std::string("exchanged"),
                        .range = std::nullopt,
                        .apply = exchange_parts,
                        .rarity = 1});
  const auto& slice = std::get<Slice>(stage.operation);
  const std::int64_t width = element_count(network.graph.output(stage.inputs[0]).shape).value_or(0);
  const std::int64_t count = element_count(slice.out).value_or(0);
  if (width != 2 * count || slice.groups < 1 || count % slice.groups != 0) return;
  const std::int64_t part = count / slice.groups;
  const auto add = [&](std::string cause, std::string expected, std::string found, std::int64_t groups, std::int64_t first) {
    list.push_back({.row = "14",
                    .field = "slice.layout",
                    .cause = std::move(cause),
                    .expected = std::move(expected),
                    .found = std::move(found),
                    .range = std::nullopt,
                    .apply =
                        [groups, first](const BoundGraph& net, int at, double, Patch& patch) {
                          Stage& target = patched_stage(net, at, patch);
                          auto* op = std::get_if<Slice>(&target.operation);
                          if (op == nullptr) return false;
                          op->groups = groups;
                          op->first = first;
                          return true;
                        },
                    .rarity = 1});
  };
  add("the two halves of each head are exchanged", std::string("query, gate"), std::string("gate, query"), slice.groups,
      slice.first == 0 ? part : 0);
  if (slice.groups > 1) {
    add("a projection that is fused head by head is split in two blocks", std::string("by head"), std::string("in blocks"), 1,
        slice.first == 0 ? 0 : count);
  }
}

void logits_hypotheses(const Stage& stage, std::vector<Hypothesis>& list) {
  if (!std::get<Logits>(stage.operation).soft_cap) return;
  list.push_back(scaling<Logits>(
      {"56", "logits.capped_scale", "the logits are scaled behind their soft cap", 1.0, std::monostate{}}, kAnyFactor,
      [](const Stage& s, const StageOperands& operands, const StageContext& context, double by) {
        Outputs y = run_stage(s, operands, context);
        for (double& value : y[0].data)
          value = context.numerics.activation(value * by);
        return y;
      }));
  list.back().rarity = 0.5;
}

void add_hypotheses(std::vector<Hypothesis>& list) {
  list.push_back(
      computing<Add>({"28", "add.branch", "the branch is not added: the layer's half is left out", true, false},
                     [](const Stage&, const StageOperands& operands, const StageContext&) { return Outputs{*operands.inputs[0]}; }));
  list.push_back(
      scaling<Add>({"28", "add.residual_factor", "the residual stream is multiplied before the branch joins it", 1.0, std::monostate{}},
                   kAnyFactor, [](const Stage& s, const StageOperands& operands, const StageContext& context, double by) {
                     Tensor x = *operands.inputs[0];
                     for (double& value : x.data)
                       value = context.numerics.activation(value * by);
                     return run_with_input(s, operands, context, 0, x);
                   }));
}

}  // namespace

std::vector<Hypothesis> computed_hypotheses(const BoundGraph& network, int index) {
  const Stage& stage = stage_at(network, index);
  const std::string role = name_in_layer(stage.name, stage.layer);
  std::vector<Hypothesis> list;
  if (std::holds_alternative<Gated>(stage.operation)) gate_hypotheses(role, list);
  if (std::holds_alternative<Slice>(stage.operation)) slice_hypotheses(network, index, list);
  if (std::holds_alternative<Logits>(stage.operation)) logits_hypotheses(stage, list);
  if (std::holds_alternative<Add>(stage.operation)) add_hypotheses(list);
  return list;
}

}  // namespace plumb
