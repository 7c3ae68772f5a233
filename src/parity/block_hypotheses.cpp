// What an engine may do otherwise with a whole part of a block: a norm applied twice, a layer skipped, projections taken from one
// fused matrix in another order, another number of experts chosen.
#include <algorithm>
#include <array>
#include <optional>

#include "graph/builder.h"
#include "parity/changed_weights.h"
#include "parity/computing.h"

namespace plumb {
namespace {

// The stage of this role in a layer; -1 where there is none.
int stage_of_role(const BoundGraph& network, int layer, std::string_view role) {
  const auto& stages = network.graph.stages;
  for (int i = 0; i < static_cast<int>(stages.size()); ++i) {
    const Stage& stage = stages[static_cast<std::size_t>(i)];
    if (stage.layer == layer && name_in_layer(stage.name, layer) == role) return i;
  }
  return -1;
}

void norm_hypotheses(const Stage& stage, std::vector<Hypothesis>& list) {
  const bool qk = stage.name.ends_with("q_norm") || stage.name.ends_with("k_norm");
  list.push_back({.row = qk                     ? "39"
                         : stage.name == "norm" ? "29"
                                                : "26",
                  .field = "norm.times",
                  .cause = "the norm is applied twice",
                  .expected = std::int64_t{1},
                  .found = std::int64_t{2},
                  .range = std::nullopt,
                  .apply =
                      [](const BoundGraph& network, int index, double, Patch& patch) {
                        if (!std::holds_alternative<Norm>(stage_at(network, index).operation))
                          return false;
                        patch.computations[index] = [](const Stage& s,
                                                       const StageOperands& operands,
                                                       const StageContext& context) {
                          const Outputs once = run_stage(s, operands, context);
                          return run_with_input(s, operands, context, 0, once[0]);
                        };
                        return true;
                      },
                  .rarity = 1});
}

// Rows of queries, keys and values in one fused matrix.
struct Fused {
  std::array<int, 3> stages;  // q, k, v
  std::array<std::int64_t, 3> heads;
  std::int64_t rows;  // of a head
};

std::optional<Fused> fused_projections(const BoundGraph& network, int layer) {
  Fused fused{};
  std::size_t at = 0;
  for (const std::string_view role : {"attn.q", "attn.k", "attn.v"}) {
    const int index = stage_of_role(network, layer, role);
    if (index < 0) return std::nullopt;
    const Stage& stage = stage_at(network, index);
    const Shape& shape = stage.outputs[0].shape;
    if (!std::holds_alternative<Linear>(stage.operation) || shape.size() != 2) return std::nullopt;
    if (at > 0 && shape[1] != fused.rows) return std::nullopt;
    fused.rows = shape[1];
    fused.heads[at] = shape[0];
    fused.stages[at++] = index;
  }
  if (fused.heads[1] != fused.heads[2] || fused.heads[0] % fused.heads[1] != 0) return std::nullopt;
  return fused;
}

// The heads of a fused matrix in order: all queries, all keys, all values; or for each key head its queries, itself, its values.
std::vector<std::pair<std::size_t, std::int64_t>> heads_of(const Fused& fused, bool by_group) {
  std::vector<std::pair<std::size_t, std::int64_t>> order;
  const std::int64_t group = fused.heads[0] / fused.heads[1];
  for (std::int64_t kv = 0; by_group && kv < fused.heads[1]; ++kv) {
    for (std::int64_t h = 0; h < group; ++h)
      order.emplace_back(0, kv * group + h);
    order.emplace_back(1, kv);
    order.emplace_back(2, kv);
  }
  for (std::size_t part = 0; !by_group && part < 3; ++part) {
    for (std::int64_t h = 0; h < fused.heads[part]; ++h)
      order.emplace_back(part, h);
  }
  return order;
}

// The checkpoint has the heads in one order, the suspect takes them in the other.
bool take_heads(const BoundGraph& network, int index, bool stored_by_group, Patch& patch) {
  const auto fused = fused_projections(network, stage_at(network, index).layer);
  if (!fused || std::ranges::find(fused->stages, index) == fused->stages.end()) return false;
  const auto stored = heads_of(*fused, stored_by_group);
  const auto taken = heads_of(*fused, !stored_by_group);
  const std::size_t params = stage_at(network, fused->stages[0]).params.size();
  for (std::size_t p = 0; p < params; ++p) {
    std::vector<WeightPtr> weights;
    for (const int stage : fused->stages) {
      const auto& own = stage_at(network, stage).params;
      if (own.size() != params) return false;
      weights.push_back(network.weights[static_cast<std::size_t>(own[p])]);
    }
    for (std::size_t part = 0; part < 3; ++part) {
      std::vector<RowOf> order(static_cast<std::size_t>(fused->heads[part] * fused->rows));
      for (std::size_t place = 0; place < taken.size(); ++place) {
        if (taken[place].first != part) continue;
        for (std::int64_t row = 0; row < fused->rows; ++row) {
          order[static_cast<std::size_t>(taken[place].second * fused->rows + row)] = {
              .weight = stored[place].first, .row = stored[place].second * fused->rows + row};
        }
      }
      std::vector<WeightPtr> from = weights;
      std::vector<RowOf> rows = order;
      // The first lends its shape.
      std::swap(from[0], from[part]);
      for (RowOf& row : rows)
        row.weight = row.weight == part ? 0 : row.weight == 0 ? part : row.weight;
      patch.weights[stage_at(network, fused->stages[part]).params[p]] =
          rows_of(std::move(from), std::move(rows));
    }
  }
  return true;
}

bool exchange_keys_and_values(const BoundGraph& network, int index, Patch& patch) {
  const auto fused = fused_projections(network, stage_at(network, index).layer);
  if (!fused || (fused->stages[1] != index && fused->stages[2] != index)) return false;
  const auto& keys = stage_at(network, fused->stages[1]).params;
  const auto& values = stage_at(network, fused->stages[2]).params;
  if (keys.size() != values.size()) return false;
  patched_stage(network, fused->stages[1], patch).params = values;
  patched_stage(network, fused->stages[2], patch).params = keys;
  return true;
}

void projection_hypotheses(const BoundGraph& network, int index, std::vector<Hypothesis>& list) {
  const auto fused = fused_projections(network, stage_at(network, index).layer);
  if (!fused || std::ranges::find(fused->stages, index) == fused->stages.end()) return;
  const std::string blocks = "in blocks";
  const std::string groups = "group by group";
  for (const bool by_group : {false, true}) {
    list.push_back(
        {.row = "14",
         .field = "linear.fused",
         .cause = "a fused projection of queries, keys and values is split in the other way",
         .expected = by_group ? groups : blocks,
         .found = by_group ? blocks : groups,
         .range = std::nullopt,
         .apply = [by_group](const BoundGraph& net, int target, double,
                             Patch& patch) { return take_heads(net, target, by_group, patch); },
         .rarity = 1});
  }
  if (index == fused->stages[0]) return;
  list.push_back(
      {.row = "14",
       .field = "linear.fused_order",
       .cause = "the keys' and the values' projections are exchanged",
       .expected = std::string("q, k, v"),
       .found = std::string("q, v, k"),
       .range = std::nullopt,
       .apply = [](const BoundGraph& net, int target, double,
                   Patch& patch) { return exchange_keys_and_values(net, target, patch); },
       .rarity = 1});
}

// What came into the layer of a stage that yields what leaves it.
std::optional<Value> entered(const BoundGraph& network, int index) {
  const Stage& stage = stage_at(network, index);
  const std::string role = name_in_layer(stage.outputs[0].name, stage.layer);
  if (stage.layer < 0 || (role != "residual" && role != "streams")) return std::nullopt;
  // The earliest input of the layer's stages that lies outside it.
  const auto& shape = stage.outputs[0].shape;
  for (int i = 2; i <= index; ++i) {
    const Stage& other = stage_at(network, i);
    if (other.layer != stage.layer) continue;
    for (const Value input : other.inputs) {
      if (input.stage > 1 && stage_at(network, input.stage).layer != stage.layer &&
          network.graph.output(input).shape == shape)
        return input;
    }
  }
  return std::nullopt;
}

void layer_hypotheses(const BoundGraph& network, int index, std::vector<Hypothesis>& list) {
  if (!entered(network, index)) return;
  list.push_back({.row = "28",
                  .field = "layer.present",
                  .cause = "the layer is skipped: it hands on what came into it",
                  .expected = true,
                  .found = false,
                  .range = std::nullopt,
                  .apply =
                      [](const BoundGraph& net, int target, double, Patch& patch) {
                        const auto from = entered(net, target);
                        if (!from) return false;
                        Stage& stage = patched_stage(net, target, patch);
                        stage.operation = Add{.factor = 0};
                        stage.inputs = {*from, *from};
                        stage.params.clear();
                        return true;
                      },
                  .rarity = 1});
}

// The norm of what a branch is added to: the branch's own input, where it has one.
int norm_of_stream(const BoundGraph& network, int index) {
  const Stage& add = stage_at(network, index);
  if (!std::holds_alternative<Add>(add.operation)) return -1;
  for (int i = 2; i < index; ++i) {
    const Stage& stage = stage_at(network, i);
    const bool norm = std::holds_alternative<Norm>(stage.operation) && stage.layer == add.layer;
    if (norm && stage.inputs[0].stage == add.inputs[0].stage && stage.inputs[0].output == add.inputs[0].output) return i;
  }
  return -1;
}

void stream_hypotheses(const BoundGraph& network, int index, std::vector<Hypothesis>& list) {
  if (norm_of_stream(network, index) < 0) return;
  list.push_back({.row = "28",
                  .field = "add.stream",
                  .cause = "the branch is added to its own normalised input, not to the residual stream",
                  .expected = std::string("residual"),
                  .found = std::string("normalised"),
                  .range = std::nullopt,
                  .apply =
                      [](const BoundGraph& net, int target, double, Patch& patch) {
                        const int norm = norm_of_stream(net, target);
                        if (norm < 0) return false;
                        patched_stage(net, target, patch).inputs[0] = {norm, 0};
                        return true;
                      },
                  .rarity = 1});
}

void choice_hypotheses(const Stage& stage, std::vector<Hypothesis>& list) {
  const auto* router = std::get_if<Router>(&stage.operation);
  const auto* blocks = std::get_if<Index>(&stage.operation);
  if (router == nullptr && blocks == nullptr) return;
  if (router != nullptr && router->choice == RouterChoice::kTable) return;
  const std::int64_t right = router != nullptr ? router->chosen : blocks->chosen;
  const std::int64_t most = router != nullptr ? router->experts : 2 * right;
  Range range{1, static_cast<double>(most), false, true, {}};
  for (const std::int64_t snap : {right - 1, right + 1, 2 * right, right / 2, std::int64_t{1}})
    range.snaps.push_back(static_cast<double>(snap));
  list.push_back({.row = router != nullptr ? "51" : "63",
                  .field = router != nullptr ? "router.chosen" : "index.chosen",
                  .cause = router != nullptr ? "another number of experts is chosen"
                                             : "another number of blocks is chosen",
                  .expected = right,
                  .found = std::monostate{},
                  .range = std::move(range),
                  .apply =
                      [](const BoundGraph& net, int target, double value, Patch& patch) {
                        const auto count = static_cast<std::int64_t>(value);
                        Stage& changed = patched_stage(net, target, patch);
                        if (auto* op = std::get_if<Router>(&changed.operation)) {
                          if (count < 1 || count > op->experts) return false;
                          op->chosen = count;
                          return true;
                        }
                        auto* op = std::get_if<Index>(&changed.operation);
                        if (op == nullptr || count < 1) return false;
                        op->chosen = count;
                        return true;
                      },
                  .rarity = 0.5});
}

}  // namespace

std::vector<Hypothesis> block_hypotheses(const BoundGraph& network, int index) {
  const Stage& stage = stage_at(network, index);
  std::vector<Hypothesis> list;
  if (std::holds_alternative<Norm>(stage.operation)) norm_hypotheses(stage, list);
  if (std::holds_alternative<Linear>(stage.operation)) projection_hypotheses(network, index, list);
  if (std::holds_alternative<Add>(stage.operation) || std::holds_alternative<Mix>(stage.operation))
    layer_hypotheses(network, index, list);
  stream_hypotheses(network, index, list);
  choice_hypotheses(stage, list);
  return list;
}

}  // namespace plumb
