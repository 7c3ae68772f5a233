// What an engine may wire otherwise across several stages: which layers rotate, in which order layers run, which of two stages comes first
// under its own name, and how a stage splits the projection that it reads, where the split that was captured is right.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "graph/builder.h"
#include "parity/computing.h"

namespace plumb {
namespace {

bool turns_forward(const Stage& stage) {
  const auto* rope = std::get_if<Rope>(&stage.operation);
  return rope != nullptr && rope->direction == RopeDirection::kForward;
}

// The layers that attend, in order, and whether each rotates.
struct Schedule {
  std::vector<int> layers;
  std::vector<bool> rotates;

  bool operator==(const Schedule&) const = default;
};

Schedule schedule_of(const BoundGraph& network) {
  Schedule schedule;
  std::set<int> rotating;
  for (const Stage& stage : network.graph.stages) {
    if (turns_forward(stage)) rotating.insert(stage.layer);
    if (!std::holds_alternative<Attend>(stage.operation)) continue;
    schedule.layers.push_back(stage.layer);
    schedule.rotates.push_back(rotating.contains(stage.layer));
  }
  return schedule;
}

// The patch of one stage that makes its layer rotate, or not: what other hypotheses say of it.
void turn(const BoundGraph& network, int index, Patch& patch) {
  const bool attends = std::holds_alternative<Attend>(stage_at(network, index).operation);
  const auto list = attends ? attention_hypotheses(network, index) : structural_hypotheses(network, index);
  for (const Hypothesis& hypothesis : list) {
    if (hypothesis.field != (attends ? "attend.rotation" : "rope.present")) continue;
    hypothesis.apply(network, index, 0, patch);
    return;
  }
}

void add_schedule(const BoundGraph& network, int index, const Schedule& right, const Schedule& wrong, std::string found,
                  std::vector<Hypothesis>& list) {
  std::set<int> others;
  for (std::size_t i = 0; i < right.layers.size(); ++i) {
    if (right.rotates[i] != wrong.rotates[i]) others.insert(right.layers[i]);
  }
  // Told once, at the first stage that it changes; it changes all of them.
  const auto concerned = [&](const Stage& stage) {
    return others.contains(stage.layer) && (turns_forward(stage) || std::holds_alternative<Attend>(stage.operation));
  };
  Patch all;
  int first = -1;
  const auto& stages = network.graph.stages;
  for (int i = 0; i < static_cast<int>(stages.size()); ++i) {
    if (!concerned(stages[static_cast<std::size_t>(i)])) continue;
    if (first < 0) first = i;
    if (first != index) return;
    turn(network, i, all);
  }
  if (first < 0) return;
  list.push_back({.row = "35",
                  .field = "attend.schedule",
                  .cause = "the rotation is on other layers",
                  .expected = std::string("no_rope_layers"),
                  .found = std::move(found),
                  .range = std::nullopt,
                  .apply =
                      [all](const BoundGraph&, int, double, Patch& patch) {
                        for (const auto& [stage, changed] : all.stages)
                          patch.stages.insert_or_assign(stage, changed);
                        for (const auto& [stage, computation] : all.computations)
                          patch.computations.insert_or_assign(stage, computation);
                        return true;
                      },
                  .rarity = 0.5});
}

void schedule_hypotheses(const BoundGraph& network, int index, std::vector<Hypothesis>& list) {
  const Stage& stage = stage_at(network, index);
  if (!turns_forward(stage) && !std::holds_alternative<Attend>(stage.operation)) return;
  const Schedule right = schedule_of(network);
  const std::size_t n = right.rotates.size();
  if (std::ranges::count(right.rotates, true) % static_cast<std::ptrdiff_t>(std::max<std::size_t>(n, 1)) == 0) return;  // all or none
  std::vector<Schedule> seen = {right};
  const auto add = [&](std::string found, const std::function<bool(std::size_t)>& rotates) {
    Schedule wrong = right;
    for (std::size_t i = 0; i < n; ++i)
      wrong.rotates[i] = rotates(i);
    if (std::ranges::find(seen, wrong) != seen.end()) return;
    seen.push_back(wrong);
    add_schedule(network, index, right, wrong, std::move(found), list);
  };
  add("every layer rotates", [](std::size_t) { return true; });
  add("no layer rotates", [](std::size_t) { return false; });
  add("the flags reversed", [&](std::size_t i) { return !right.rotates[i]; });
  add("a layer late", [&](std::size_t i) { return bool{right.rotates[(i + n - 1) % n]}; });
  add("a layer early", [&](std::size_t i) { return bool{right.rotates[(i + 1) % n]}; });
}

// What enters the first layer and what leaves each; empty where a layer hands on several values.
std::vector<Value> between_layers(const BoundGraph& network) {
  std::vector<std::optional<Value>> left(static_cast<std::size_t>(network.graph.layers()));
  std::optional<Value> entered;
  for (const Stage& stage : network.graph.stages) {
    for (const Value input : stage.inputs) {
      const int from = stage_at(network, input.stage).layer;
      if (input.stage <= Builder::kPositions.stage || from == stage.layer || (from < 0 && stage.layer != 0)) continue;
      std::optional<Value>& place = from < 0 ? entered : left[static_cast<std::size_t>(from)];
      if (place && (place->stage != input.stage || place->output != input.output)) return {};
      place = input;
    }
  }
  std::vector<Value> values;
  for (std::size_t i = 0; i <= left.size(); ++i) {
    const auto& value = i == 0 ? entered : left[i - 1];
    if (!value) return {};
    values.push_back(*value);
  }
  return values;
}

// Layers that are executed in another order, each with its own weights and under its own number: order[k] is the k-th to run.
bool run_in_order(const BoundGraph& network, const std::vector<int>& order, Patch& patch) {
  const std::vector<Value> values = between_layers(network);
  if (values.empty()) return false;
  std::vector<Value> enters(order.size());
  for (std::size_t k = 0; k < order.size(); ++k)
    enters[static_cast<std::size_t>(order[k])] = k == 0 ? values[0] : values[static_cast<std::size_t>(order[k - 1]) + 1];
  for (int i = 0; i < static_cast<int>(network.graph.stages.size()); ++i) {
    const Stage& stage = stage_at(network, i);
    for (std::size_t in = 0; in < stage.inputs.size(); ++in) {
      const Value input = stage.inputs[in];
      const bool last = stage.layer < 0 && stage_at(network, input.stage).layer >= 0;
      const Value& right = last ? values.back() : values[static_cast<std::size_t>(std::max(stage.layer, 0))];
      if ((stage.layer < 0 && !last) || input.stage != right.stage || input.output != right.output) continue;
      const Value& wrong = last ? values[static_cast<std::size_t>(order.back()) + 1] : enters[static_cast<std::size_t>(stage.layer)];
      if (wrong.stage != right.stage || wrong.output != right.output) patched_stage(network, i, patch).inputs[in] = wrong;
    }
  }
  return !patch.stages.empty();
}

// Told once, at the first stage that it changes; it changes all of them.
void sequence_hypotheses(const BoundGraph& network, int index, std::vector<Hypothesis>& list) {
  constexpr int kFew = 8;  // layers: of more, neighbours alone
  const int layers = network.graph.layers();
  const auto add = [&](std::vector<int> order, std::string found) {
    Patch all;
    if (!run_in_order(network, order, all) || all.stages.begin()->first != index) return;
    list.push_back({.row = "28",
                    .field = "layer.sequence",
                    .cause = "layers are executed in another order, each with its own weights",
                    .expected = std::string("in their order"),
                    .found = std::move(found),
                    .range = std::nullopt,
                    .apply =
                        [order, changed = all.stages](const BoundGraph& net, int target, double, Patch& patch) {
                          return changed.contains(target) && run_in_order(net, order, patch);
                        },
                    .everywhere = true,
                    .rarity = 0.5});
  };
  // Only what changes this stage can begin here.
  if (stage_at(network, index).layer < 0) return;
  std::vector<int> own(static_cast<std::size_t>(layers));
  std::iota(own.begin(), own.end(), 0);
  const int a = stage_at(network, index).layer;
  for (int b = a + 1; b < (layers <= kFew ? layers : std::min(a + 2, layers)); ++b) {
    std::vector<int> order = own;
    std::swap(order[static_cast<std::size_t>(a)], order[static_cast<std::size_t>(b)]);
    add(order, fmt::format("layers {} and {} exchanged", a, b));
  }
  if (a == 0 && layers > 2) add({own.rbegin(), own.rend()}, "from the last to the first");
}

// The norm behind the rotation, where each of the two is captured under its own name.
void named_order_hypotheses(const BoundGraph& network, int index, std::vector<Hypothesis>& list) {
  const auto norm_of = [](const BoundGraph& net, int rope) {
    const Stage& stage = stage_at(net, rope);
    const int source = stage.inputs.empty() ? -1 : stage.inputs[0].stage;
    return turns_forward(stage) && source > 1 && std::holds_alternative<Norm>(stage_at(net, source).operation) ? source : -1;
  };
  int rope = -1;
  for (int i = index; i < static_cast<int>(network.graph.stages.size()) && stage_at(network, i).layer == stage_at(network, index).layer;
       ++i) {
    const int norm = norm_of(network, i);
    if (norm >= 0 && (norm == index || i == index)) rope = i;
  }
  if (rope < 0) return;
  list.push_back({.row = "39",
                  .field = "norm.order",
                  .cause = "queries and keys are normalised after the rotation",
                  .expected = std::string("norm, rotation"),
                  .found = std::string("rotation, norm, each under its name"),
                  .range = std::nullopt,
                  .apply =
                      [norm_of](const BoundGraph& net, int target, double, Patch& patch) {
                        const auto& stages = net.graph.stages;
                        for (int i = target; i < static_cast<int>(stages.size()) && stage_at(net, i).layer == stage_at(net, target).layer;
                             ++i) {
                          const int norm = norm_of(net, i);
                          if (norm < 0 || (norm != target && i != target)) continue;
                          // What another cause has put in their place reads otherwise: the two would read each other.
                          if (!std::holds_alternative<Rope>(patched_stage(net, i, patch).operation) ||
                              !std::holds_alternative<Norm>(patched_stage(net, norm, patch).operation))
                            return false;
                          patched_stage(net, i, patch).inputs[0] = stage_at(net, norm).inputs[0];
                          patched_stage(net, norm, patch).inputs[0] = Value{i, 0};
                          for (int reader = i + 1; reader < static_cast<int>(stages.size()); ++reader) {
                            for (std::size_t in = 0; in < stage_at(net, reader).inputs.size(); ++in) {
                              if (stage_at(net, reader).inputs[in].stage == i)
                                patched_stage(net, reader, patch).inputs[in] = Value{norm, 0};
                            }
                          }
                          return true;
                        }
                        return false;
                      },
                  .rarity = 1});
}

// The part of a projection of two parts per head that a stage reads is cut otherwise by the stage itself.
void own_split_hypotheses(const BoundGraph& network, int index, std::vector<Hypothesis>& list) {
  struct Cut {
    std::size_t input;
    Value whole;
    Slice slice;
  };
  const auto cut_of = [](const BoundGraph& net, int target) -> std::optional<Cut> {
    const Stage& stage = stage_at(net, target);
    if (std::holds_alternative<Slice>(stage.operation)) return std::nullopt;
    for (std::size_t i = 0; i < stage.inputs.size(); ++i) {
      const Stage& source = stage_at(net, stage.inputs[i].stage);
      const auto* slice = std::get_if<Slice>(&source.operation);
      if (slice == nullptr || slice->groups < 2) continue;
      if (element_count(net.graph.output(source.inputs[0]).shape).value_or(0) != 2 * element_count(slice->out).value_or(0)) continue;
      return Cut{i, source.inputs[0], *slice};
    }
    return std::nullopt;
  };
  if (!cut_of(network, index)) return;
  for (const bool blocks : {false, true}) {
    list.push_back(
        {.row = "14",
         .field = "slice.layout",
         .cause = blocks ? "a projection that is fused head by head is split in two blocks" : "the two halves of each head are exchanged",
         .expected = std::string(blocks ? "by head" : "query, gate"),
         .found = std::string(blocks ? "in blocks" : "gate, query"),
         .range = std::nullopt,
         .apply =
             [cut_of, blocks](const BoundGraph& net, int target, double, Patch& patch) {
               const auto cut = cut_of(net, target);
               if (!cut) return false;
               Slice other = cut->slice;
               const std::int64_t part = *element_count(other.out) / other.groups;
               const bool first = other.first == 0;
               if (blocks) other.groups = 1;
               other.first = blocks ? (first ? 0 : *element_count(other.out)) : (first ? part : 0);
               Stage& changed = patched_stage(net, target, patch);
               changed.inputs = stage_at(net, target).inputs;
               changed.inputs.push_back(cut->whole);
               patch.computations[target] = [other, input = cut->input](const Stage& s, const StageOperands& operands,
                                                                        const StageContext& context) {
                 Stage slice = s;
                 slice.operation = other;
                 slice.outputs = {Output{.name = "", .shape = other.out}};
                 const Outputs taken = run_stage(slice, {.inputs = {operands.inputs.back()}, .weights = {}, .states = {}}, context);
                 StageOperands own = operands;
                 own.inputs.pop_back();
                 own.inputs[input] = taken.data();
                 return run_stage(s, own, context);
               };
               return true;
             },
         .rarity = 1.5});
  }
}

}  // namespace

std::vector<Hypothesis> wiring_hypotheses(const BoundGraph& network, int index) {
  std::vector<Hypothesis> list;
  schedule_hypotheses(network, index, list);
  sequence_hypotheses(network, index, list);
  named_order_hypotheses(network, index, list);
  own_split_hypotheses(network, index, list);
  return list;
}

}  // namespace plumb
