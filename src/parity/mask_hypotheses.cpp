// What an engine may let its queries see otherwise, as engines were reported to: a key that no query sees, windows counted in chunks, a soft
// cap behind the mask, unmasked padding of the cache; and what its cache holds: values that were rotated, keys that were not.
#include <cmath>
#include <limits>

#include "graph/builder.h"
#include "parity/changed_weights.h"
#include "parity/computing.h"
#include "parity/weighted_values.h"

namespace plumb {
namespace {

bool attends(const Stage& stage) {
  return std::holds_alternative<Attend>(stage.operation);
}

// The stage with its scores changed: score, the query's position, the key's.
Computation with_scores(std::function<double(const Attend& op, double score, std::int64_t query, std::int64_t key)> change) {
  return [change = std::move(change)](const Stage& stage, const StageOperands& operands, const StageContext& context) {
    Outputs result = run_stage(stage, operands, context);
    const auto& positions = std::get<KeyValueCache>(*operands.states[0]).positions;
    const auto keys = static_cast<std::size_t>(result[0].shape.back());
    if (keys != positions.size()) return result;
    const Tensor before = result[0];
    const auto heads = static_cast<std::size_t>(before.shape[1]);
    for (std::size_t row = 0; row < before.data.size() / std::max<std::size_t>(keys, 1); ++row) {
      const auto query = std::int64_t{std::llround(operands.inputs[3]->data[row / heads])};
      for (std::size_t j = 0; j < keys; ++j) {
        double& score = result[0].data[row * keys + j];
        score = change(std::get<Attend>(stage.operation), score, query, positions[j]);
      }
    }
    take_softmax_again(stage, operands, result, before);
    return result;
  };
}

constexpr double kNothing = -std::numeric_limits<double>::infinity();

void seen_hypotheses(const Attend& attend, std::vector<Hypothesis>& list) {
  list.push_back(computing({"44", "attend.first_key", "no query but the first sees the first key", true, false}, attends,
                           with_scores([](const Attend&, double score, std::int64_t query, std::int64_t key) {
                             return key == 0 && query != 0 ? kNothing : score;
                           })));
  if (attend.window) {
    list.push_back(computing({"42", "attend.window_in_chunks", "the window is a chunk of positions, not the last ones", std::string("the last positions"),
                              std::string("chunks")},
                             [](const Stage& stage) { return attends(stage) && std::get<Attend>(stage.operation).window.has_value(); },
                             with_scores([](const Attend& op, double score, std::int64_t query, std::int64_t key) {
                               const std::int64_t window = std::max<std::int64_t>(op.window.value_or(1), 1);  // beside another cause, it may be any
                               return query / window == key / window ? score : kNothing;
                             })));
  }
  if (attend.soft_cap) {
    list.push_back(computing({"41", "attend.soft_cap_place", "the soft cap is taken behind the mask: what is masked becomes minus the cap",
                              std::string("before the mask"), std::string("behind it")},
                             [](const Stage& stage) { return attends(stage) && std::get<Attend>(stage.operation).soft_cap.has_value(); },
                             with_scores([](const Attend& op, double score, std::int64_t, std::int64_t) {
                               return std::isfinite(score) || !op.soft_cap ? score : -*op.soft_cap;
                             })));
  }
}

// Keys of zeros that no mask covers: each has a score of 0 and a value of 0, all of them together a sink of log(count).
void unmasked_hypotheses(std::vector<Hypothesis>& list) {
  const auto without_sinks = [](const Stage& stage) { return attends(stage) && stage.params.empty(); };
  Hypothesis zeros = computing({"44", "attend.zero_keys", "empty slots of the cache are not masked: keys of zeros join each softmax", std::int64_t{0},
                                std::monostate{}},
                               without_sinks, {});
  zeros.range = Range{2, 96, false, true, {}};
  zeros.rarity = 2;
  zeros.apply = [without_sinks](const BoundGraph& network, int index, double count, Patch& patch) {
    if (!without_sinks(stage_at(network, index))) return false;
    patch.computations[index] = [count](const Stage& stage, const StageOperands& operands, const StageContext& context) {
      Stage with = stage;
      std::get<Attend>(with.operation).sinks = true;
      const WeightPtr sink = constant({operands.inputs[0]->shape[1]}, std::log(count));
      StageOperands more = operands;
      more.weights.push_back(sink.get());
      return run_stage(with, more, context);
    };
    return true;
  };
  list.push_back(std::move(zeros));
}

// The rotation of the keys that a stage attends to; -1 where there is none.
int rotation_of_keys(const BoundGraph& network, int index) {
  const Stage& stage = stage_at(network, index);
  if (!attends(stage) || stage.inputs.size() < 4) return -1;
  const int rope = stage.inputs[1].stage;
  return std::holds_alternative<Rope>(stage_at(network, rope).operation) ? rope : -1;
}

Hypothesis about_rotation(CauseName name, std::function<Computation(const BoundGraph& network, int rope, Stage& changed)> make) {
  Hypothesis hypothesis = computing(std::move(name), attends, {});
  hypothesis.apply = [make = std::move(make)](const BoundGraph& network, int index, double, Patch& patch) {
    const int rope = rotation_of_keys(network, index);
    if (rope < 0) return false;
    Stage& changed = patched_stage(network, index, patch);
    if (changed.inputs.size() != stage_at(network, index).inputs.size()) return false;  // another cause wired it otherwise
    patch.computations[index] = make(network, rope, changed);
    return true;
  };
  return hypothesis;
}

void rotation_hypotheses(std::vector<Hypothesis>& list) {
  list.push_back(about_rotation({"35", "attend.rotated_values", "the values are rotated like the keys", false, true},
                                [](const BoundGraph& network, int rope, Stage&) -> Computation {
                                  return [turn = stage_at(network, rope)](const Stage& stage, const StageOperands& operands, const StageContext& context) {
                                    Stage values = turn;
                                    values.outputs[0].shape = {operands.inputs[2]->shape.begin() + 1, operands.inputs[2]->shape.end()};
                                    const Outputs turned =
                                        run_stage(values, {.inputs = {operands.inputs[2], operands.inputs[3]}, .weights = {}, .states = {}}, context);
                                    return run_with_input(stage, operands, context, 2, turned[0]);
                                  };
                                }));
  list.push_back(about_rotation({"46", "cache.unrotated", "keys are cached before their rotation: later passes see them unrotated", std::string("rotated"),
                                 std::string("unrotated")},
                                [](const BoundGraph& network, int rope, Stage& changed) -> Computation {
                                  changed.inputs.push_back(stage_at(network, rope).inputs[0]);
                                  return [](const Stage& stage, const StageOperands& operands, const StageContext& context) {
                                    StageOperands own = operands;
                                    const Tensor* unrotated = own.inputs.back();
                                    own.inputs.pop_back();
                                    StateValue seen = *operands.states[0];
                                    own.states[0] = &seen;
                                    Outputs result = run_stage(stage, own, context);
                                    own.states[0] = operands.states[0];
                                    own.inputs[1] = unrotated;
                                    (void)run_stage(stage, own, context);  // what is remembered
                                    return result;
                                  };
                                }));
  list.back().later = true;
}

}  // namespace

std::vector<Hypothesis> mask_hypotheses(const BoundGraph& network, int index) {
  const Stage& stage = stage_at(network, index);
  std::vector<Hypothesis> list;
  if (!attends(stage)) return list;
  seen_hypotheses(std::get<Attend>(stage.operation), list);
  if (stage.params.empty()) unmasked_hypotheses(list);
  if (rotation_of_keys(network, index) >= 0) rotation_hypotheses(list);
  return list;
}

}  // namespace plumb
