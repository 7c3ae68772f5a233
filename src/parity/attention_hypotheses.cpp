// What an engine may do otherwise in attention that no field of the convention says: which sinks join the softmax, whether a layer rotates,
// and in which order the normalisation and the rotation of queries and keys stand.
#include <algorithm>
#include <cmath>
#include <span>

#include "core/float_bits.h"
#include "graph/builder.h"
#include "graph/rope.h"
#include "parity/changed_weights.h"
#include "parity/computing.h"
#include "parity/more_hypotheses.h"
#include "parity/weighted_values.h"

namespace plumb {
namespace {

bool attends(const Stage& stage) {
  return std::holds_alternative<Attend>(stage.operation);
}

void sink_hypotheses(const BoundGraph& network, int index, std::vector<Hypothesis>& list) {
  const Stage& stage = stage_at(network, index);
  if (stage.params.empty()) {
    if (!attends(stage)) return;
    list.push_back(computing(
        {"45", "attend.extra_sink", "a sink of 0 joins each softmax: its sum has one more", false, true}, [](const Stage& s) { return attends(s) && s.params.empty(); },
        [](const Stage& s, const StageOperands& operands, const StageContext& context) {
          Stage with = s;
          std::get<Attend>(with.operation).sinks = true;
          const WeightPtr zero = constant({operands.inputs[0]->shape[1]}, 0);
          StageOperands more = operands;
          more.weights.push_back(zero.get());
          return run_stage(with, more, context);
        }));
    return;
  }
  const auto change =
      [](std::function<WeightPtr(const BoundGraph&, const WeightPtr&, double)> make) {
        return [make = std::move(make)](const BoundGraph& net, int target, double value,
                                        Patch& patch) {
          const Stage& s = stage_at(net, target);
          const bool sinks = attends(s) || std::holds_alternative<AttendShared>(s.operation);
          if (!sinks || s.params.empty()) return false;
          patch.weights[s.params[0]] =
              make(net, net.weights[static_cast<std::size_t>(s.params[0])], value);
          return true;
        };
      };
  const double scale = attends(stage) ? std::get<Attend>(stage.operation).scale
                                      : std::get<AttendShared>(stage.operation).scale;
  list.push_back({.row = "45",
                  .field = "attend.sink_scale",
                  .cause = "the attention sinks are multiplied before they join the softmax",
                  .expected = 1.0,
                  .found = std::monostate{},
                  .range = Range{1e-3, 1e3, true, false, {scale, 1 / scale, 0.5, 2}},
                  .apply = change([](const BoundGraph&, const WeightPtr& sinks, double factor) {
                    return scaled(sinks, factor);
                  }),
                  .rarity = 1});
  const auto heads = network.graph.params[static_cast<std::size_t>(stage.params[0])].shape[0];
  const auto deal = [&](std::string found, const std::function<std::int64_t(std::int64_t head)>& from) {
    std::vector<std::int64_t> order;
    for (std::int64_t h = 0; h < heads; ++h)
      order.push_back(from(h));
    list.push_back({.row = "45",
                    .field = "attend.sink_heads",
                    .cause = "each head has another head's sink",
                    .expected = std::string("its own"),
                    .found = std::move(found),
                    .range = std::nullopt,
                    .apply = change([order](const BoundGraph&, const WeightPtr& sinks, double) { return reordered_rows(sinks, order); }),
                    .rarity = 1});
  };
  for (std::int64_t shift = 1; shift < std::min<std::int64_t>(heads, 4); ++shift)
    deal(std::to_string(shift) + " heads away", [&](std::int64_t h) { return (h + heads - shift) % heads; });
  if (heads > 2) deal("in reversed order", [&](std::int64_t h) { return heads - 1 - h; });
  const std::int64_t key_heads = attends(stage) ? network.graph.output(stage.inputs[1]).shape[0] : 1;
  const std::int64_t group = heads / key_heads;
  if (group > 1 && key_heads > 1) {
    deal("tiled over key heads", [&](std::int64_t h) { return h % group * key_heads + h / group; });
    if (group != key_heads) deal("grouped where tiled", [&](std::int64_t h) { return h % key_heads * group + h / key_heads; });
    deal("the first of each group", [&](std::int64_t h) { return h / group * group; });
  }
}

// The mask leaves a query no key: softmax of nothing is 0 / 0, or, where masked scores are a large negative number, the same for every key.
Computation sees_nothing(bool number) {
  return [number](const Stage& stage, const StageOperands& operands, const StageContext& context) {
    Stage strict = stage;
    std::get<Attend>(strict.operation).future -= 1;
    Outputs result = run_stage(strict, operands, context);
    const auto keys = static_cast<std::size_t>(result[0].shape.back());
    std::vector<bool> nothing(keys > 0 ? result[0].data.size() / keys : 0);
    for (std::size_t row = 0; row < nothing.size(); ++row) {
      const auto scores = std::span(result[0].data).subspan(row * keys, keys);
      nothing[row] = std::ranges::none_of(scores, [](double score) { return std::isfinite(score); });
      if (nothing[row])
        std::ranges::fill(std::span(result[1].data).subspan(row * keys, keys), number ? 1 / static_cast<double>(keys) : std::nan(""));
    }
    weigh_again(stage, operands, result, nothing);
    return result;
  };
}

void mask_hypotheses(const Stage& stage, std::vector<Hypothesis>& list) {
  if (!stage.params.empty()) return;  // a sink is always seen
  for (const bool number : {false, true}) {
    list.push_back(computing({"44", "attend.sees_nothing", "the causal mask is off by one, and the first query sees nothing",
                              std::string("its own key"), std::string(number ? "all keys alike" : "no number")},
                             [](const Stage& s) { return attends(s) && s.params.empty(); }, sees_nothing(number)));
  }
}

// Every query head reads the first key-value head.
void head_hypotheses(const BoundGraph& network, const Stage& stage, std::vector<Hypothesis>& list) {
  const auto heads = [&](std::size_t input) { return network.graph.output(stage.inputs[input]).shape[0]; };
  if (heads(1) < 2 || heads(0) == heads(1)) return;
  list.push_back(computing({"17", "attend.key_head", "all query heads read the first key-value head", std::string("their group's"),
                            std::string("the first")},
                           attends,
                           [](const Stage& s, const StageOperands& operands, const StageContext& context) {
                             Tensor keys = *operands.inputs[1];
                             Tensor values = *operands.inputs[2];
                             for (Tensor* x : {&keys, &values}) {
                               for (std::int64_t t = 0; t < x->tokens(); ++t) {
                                 const auto row = x->row(t);
                                 const auto width = static_cast<std::size_t>(x->shape[2]);
                                 for (std::size_t d = width; d < row.size(); ++d)
                                   row[d] = row[d % width];
                               }
                             }
                             StageOperands one = operands;
                             one.inputs[1] = &keys;
                             one.inputs[2] = &values;
                             return run_stage(s, one, context);
                           }));
}

// A layer that rotates nothing, rotated as the others are.
void rotation_hypotheses(const BoundGraph& network, int index, std::vector<Hypothesis>& list) {
  const auto rotates = [&network](int target) {
    const Stage& stage = stage_at(network, target);
    return std::holds_alternative<Rope>(stage_at(network, stage.inputs[0].stage).operation);
  };
  if (!attends(stage_at(network, index)) || rotates(index)) return;
  for (const Stage& other : network.graph.stages) {
    const auto* rope = std::get_if<Rope>(&other.operation);
    if (rope == nullptr || rope->direction != RopeDirection::kForward) continue;
    list.push_back(computing({"35", "attend.rotation", "a layer that has no rotation is rotated", false, true}, attends, {}));
    list.back().apply = [rope = *rope](const BoundGraph& net, int target, double, Patch& patch) {
      const Stage& stage = stage_at(net, target);
      if (!attends(stage) ||
          std::holds_alternative<Rope>(stage_at(net, stage.inputs[0].stage).operation))
        return false;
      patch.computations[target] = [rope](const Stage& s, const StageOperands& operands,
                                          const StageContext& context) {
        Stage turn = s;
        turn.operation = rope;
        std::vector<Tensor> turned;
        for (const std::size_t input : {0, 1}) {
          turn.outputs = {Output{.name = "",
                                 .shape = {operands.inputs[input]->shape.begin() + 1,
                                           operands.inputs[input]->shape.end()}}};
          StageOperands of = {
              .inputs = {operands.inputs[input], operands.inputs[3]}, .weights = {}, .states = {}};
          turned.push_back(run_stage(turn, of, context)[0]);
        }
        StageOperands rotated = operands;
        rotated.inputs[0] = turned.data();
        rotated.inputs[1] = turned.data() + 1;
        return run_stage(s, rotated, context);
      };
      return true;
    };
    return;
  }
}

bool is_rope(const Stage& stage) {
  return std::holds_alternative<Rope>(stage.operation);
}

void rope_hypotheses(const BoundGraph& network, int index, std::vector<Hypothesis>& list) {
  const Stage& stage = stage_at(network, index);
  const auto& rope = std::get<Rope>(stage.operation);
  list.push_back(
      computing<Rope>({"37", "rope.frequency_precision", "the rotary frequencies are rounded to bfloat16",
                       std::string("float32"), std::string("bfloat16")},
                [](const Stage& s, const StageOperands& operands, const StageContext& context) {
                  Stage coarse = s;
                  auto& op = std::get<Rope>(coarse.operation);
                  const auto before =
                      inverse_frequencies<float>(op.frequencies, op.dims, context.known_length);
                  op.frequencies.divisors.resize(before.size(), 1);
                  for (std::size_t i = 0; i < before.size(); ++i) {
                    const double rounded = double{round_to_bfloat16(static_cast<float>(before[i]))};
                    op.frequencies.divisors[i] *= before[i] / rounded;
                  }
                  return run_stage(coarse, operands, context);
                }));
  list.back().rarity = 0;
  const std::int64_t head_dim = stage.outputs[0].shape.back();
  const auto change = [&](std::string row, std::string field, std::string cause,
                          FieldValue expected, FieldValue found, std::function<void(Rope&, const Rope& right)> set) {
    list.push_back(
        {.row = std::move(row),
         .field = std::move(field),
         .cause = std::move(cause),
         .expected = std::move(expected),
         .found = std::move(found),
         .range = std::nullopt,
         .apply =
             [set = std::move(set)](const BoundGraph& net, int target, double, Patch& patch) {
               Stage& changed = patched_stage(net, target, patch);
               auto* op = std::get_if<Rope>(&changed.operation);
               const auto* right = std::get_if<Rope>(&stage_at(net, target).operation);
               if (op == nullptr || right == nullptr) return false;
               set(*op, *right);
               return true;
             },
         .rarity = 0.5});
  };
  if (rope.frequencies.scaling == RopeScaling::kYarn) {
    // YaRN's ramp follows from the base too: an engine may take the powers of another one, or other exponents, under the right ramp.
    const double theta = rope.frequencies.theta;
    list.push_back({.row = "31",
                    .field = "rope.frequencies.powers",
                    .cause = "the powers are of another rotary base than YaRN's ramp",
                    .expected = theta,
                    .found = std::monostate{},
                    .range = Range{100, 1e8, true, false, {std::sqrt(theta), theta * theta, 1e4, 5e5, 1e6}},
                    .apply =
                        [](const BoundGraph& net, int target, double base, Patch& patch) {
                          auto* op = std::get_if<Rope>(&patched_stage(net, target, patch).operation);
                          if (op == nullptr || op->frequencies.scaling != RopeScaling::kYarn) return false;
                          auto& divisors = op->frequencies.divisors;
                          divisors.resize(static_cast<std::size_t>(op->dims / 2));
                          for (std::size_t i = 0; i < divisors.size(); ++i)
                            divisors[i] = std::pow(base / op->frequencies.theta, 2 * static_cast<double>(i) / static_cast<double>(op->dims));
                          return true;
                        },
                    .rarity = 0.5});
  }
  if (rope.dims < head_dim) {
    change("34", "rope.denominator", "the frequencies are those of the whole head's width",
           rope.dims, head_dim, [head_dim](Rope& op, const Rope& right) {
             op.frequencies.theta = std::pow(right.frequencies.theta, static_cast<double>(op.dims) / static_cast<double>(head_dim));
           });
  }
  if (rope.frequencies.scaling != RopeScaling::kNone &&
      rope.frequencies.scaling != RopeScaling::kLinear && rope.frequencies.factor > 1) {
    change("32", "rope.frequencies.scaling", "the rotary scaling is not applied, or is another one",
           to_string(FieldValue(std::string("as stated"))), std::string("linear"), [](Rope& op, const Rope&) {
             op.frequencies.scaling = RopeScaling::kLinear;
             op.attention_factor = 1;
           });
  }
  if (rope.attention_factor != 1) {
    change("32", "rope.frequencies.scaling",
           "the rotary scaling and its factor on cos and sin are not applied",
           std::string("as stated"), std::string("none"), [](Rope& op, const Rope&) {
             op.frequencies.scaling = RopeScaling::kNone;
             op.attention_factor = 1;
           });
    list.back().rarity = 1;
  }
}

// The rotation that follows a norm and nothing else reads; -1 where the stage is no norm of queries or keys.
int rotation_behind(const BoundGraph& network, int index) {
  if (!std::holds_alternative<Norm>(stage_at(network, index).operation)) return -1;
  for (int i = index + 1; i < static_cast<int>(network.graph.stages.size()); ++i) {
    const Stage& stage = stage_at(network, i);
    const bool reads = std::ranges::any_of(
        stage.inputs, [index](const Value& input) { return input.stage == index; });
    if (reads) return is_rope(stage) ? i : -1;
  }
  return -1;
}

// The norm behind the rotation: the two stages trade places. About either of them.
void order_hypotheses(const BoundGraph& network, int index, std::vector<Hypothesis>& list) {
  const auto pair_of = [](const BoundGraph& net, int target) {
    const int norm =
        is_rope(stage_at(net, target)) ? stage_at(net, target).inputs[0].stage : target;
    return std::pair(norm, rotation_behind(net, norm));
  };
  if (pair_of(network, index).second < 0) return;
  list.push_back(
      {.row = "39",
       .field = "norm.order",
       .cause = "queries and keys are normalised after the rotation",
       .expected = std::string("norm, rotation"),
       .found = std::string("rotation, norm"),
       .range = std::nullopt,
       .apply =
           [pair_of](const BoundGraph& net, int target, double, Patch& patch) {
             const auto [norm, rotation] = pair_of(net, target);
             if (rotation < 0) return false;
             Stage& a = patched_stage(net, norm, patch);
             Stage& b = patched_stage(net, rotation, patch);
             if (!is_rope(b) || !std::holds_alternative<Norm>(a.operation)) return false;
             std::swap(a.operation, b.operation);
             std::swap(a.params, b.params);
             a.inputs = {stage_at(net, norm).inputs[0], stage_at(net, rotation).inputs[1]};
             b.inputs = {Value{norm, 0}};
             return true;
           },
       .rarity = 1});
}

}  // namespace

std::vector<Hypothesis> attention_hypotheses(const BoundGraph& network, int index) {
  const Stage& stage = stage_at(network, index);
  std::vector<Hypothesis> list;
  if (attends(stage)) {
    list = cache_hypotheses();
    rotation_hypotheses(network, index, list);
    mask_hypotheses(stage, list);
    head_hypotheses(network, stage, list);
  }
  if (attends(stage) || std::holds_alternative<AttendShared>(stage.operation))
    sink_hypotheses(network, index, list);
  if (is_rope(stage)) rope_hypotheses(network, index, list);
  order_hypotheses(network, index, list);
  return list;
}

}  // namespace plumb
