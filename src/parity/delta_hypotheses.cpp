// What an engine may do otherwise in a gated delta-net that no field says: its convolution, its decay, its write strength, the state
// that it hands on.
#include <algorithm>
#include <cmath>
#include <functional>

#include "core/float_bits.h"
#include "graph/builder.h"
#include "parity/changed_weights.h"
#include "parity/computing.h"
#include "reference/kernels.h"

namespace plumb {
namespace {

void unit_hypotheses(std::vector<Hypothesis>& list) {
  list.push_back(computing<L2Norm>({"55", "l2_norm.present", "queries and keys are not brought to unit length", true, false},
                                   [](const Stage& s, const StageOperands& operands, const StageContext& context) {
                                     Tensor y = *operands.inputs[0];
                                     for (double& value : y.data)
                                       value = context.numerics.single(value * std::get<L2Norm>(s.operation).scale);
                                     return Outputs{std::move(y)};
                                   }));
}

void length_hypotheses(std::vector<Hypothesis>& list) {
  const auto dividing = [&](std::string cause, std::string found, std::function<double(double squares, double width, double eps)> length) {
    list.push_back(
        computing<L2Norm>({"55", "l2_norm.length", std::move(cause), std::string("root of the sum"), std::move(found)},
                          [length = std::move(length)](const Stage& s, const StageOperands& operands, const StageContext& context) {
                            const auto& op = std::get<L2Norm>(s.operation);
                            Tensor y = *operands.inputs[0];
                            const auto width = static_cast<std::size_t>(y.shape.back());
                            for (std::size_t first = 0; first < y.data.size(); first += width) {
                              const auto part = std::span(y.data).subspan(first, width);
                              double squares = 0;
                              for (const double value : part)
                                squares += value * value;
                              const double by = op.scale / length(squares, static_cast<double>(width), op.eps);
                              for (double& value : part)
                                value = context.numerics.single(value * by);
                            }
                            return Outputs{std::move(y)};
                          }));
  };
  dividing("the epsilon is added to the length, not under its root", "root, then epsilon",
           [](double squares, double, double eps) { return std::sqrt(squares) + eps; });
  dividing("queries and keys are divided by the root of the mean, not of the sum", "root of the mean",
           [](double squares, double width, double eps) { return std::sqrt(squares / width + eps); });
}

void activation_hypotheses(const std::string& role, std::vector<Hypothesis>& list) {
  const auto keep = [](const Stage&, const StageOperands& operands, const StageContext&) { return Outputs{*operands.inputs[0]}; };
  const bool strength = role == "linear.beta";
  list.push_back(computing<Activate>({strength ? "55" : "49", "activate.present",
                                      strength ? "the write strength goes without its sigmoid" : "the activation is left out", true, false},
                                     keep));
  list.push_back(scaling<Activate>({strength ? "55" : "49", "activate.factor", "the activation is multiplied", 1.0, std::monostate{}},
                                   kAnyFactor, [](const Stage& s, const StageOperands& operands, const StageContext& context, double by) {
                                     Outputs y = run_stage(s, operands, context);
                                     for (double& value : y[0].data)
                                       value *= by;
                                     return y;
                                   }));
  if (!strength) return;
  list.push_back(
      computing<Activate>({"55", "activate.constant", "the write strength is 1 at every token", std::string("sigmoid"), std::string("1")},
                          [](const Stage&, const StageOperands& operands, const StageContext&) {
                            Tensor y = *operands.inputs[0];
                            std::ranges::fill(y.data, 1.0);
                            return Outputs{std::move(y)};
                          }));
}

// Queries are normalised as keys and keys as queries.
bool exchange_units(const BoundGraph& network, int index, double, Patch& patch) {
  const Stage& own = stage_at(network, index);
  if (!std::holds_alternative<L2Norm>(own.operation)) return false;
  for (int i = 0; i < static_cast<int>(network.graph.stages.size()); ++i) {
    const Stage& other = stage_at(network, i);
    if (i == index || other.layer != own.layer || !std::holds_alternative<L2Norm>(other.operation) ||
        other.outputs[0].shape != own.outputs[0].shape)
      continue;
    patched_stage(network, index, patch).inputs = other.inputs;
    patched_stage(network, i, patch).inputs = own.inputs;
    return true;
  }
  return false;
}

// The write strength is read where the decay is, and the reverse: the two projections have one shape.
void exchange_hypotheses(const BoundGraph& network, int index, std::vector<Hypothesis>& list) {
  const auto partner = [](const BoundGraph& net, int at) {
    const Stage& own = stage_at(net, at);
    const bool strength = std::holds_alternative<Activate>(own.operation);
    for (int i = 0; i < static_cast<int>(net.graph.stages.size()); ++i) {
      const Stage& other = stage_at(net, i);
      const bool wanted =
          strength ? std::holds_alternative<LogDecay>(other.operation) : name_in_layer(other.name, other.layer) == "linear.beta";
      if (wanted && other.layer == own.layer) return i;
    }
    return -1;
  };
  const Stage& stage = stage_at(network, index);
  const bool concerned = std::holds_alternative<LogDecay>(stage.operation) || name_in_layer(stage.name, stage.layer) == "linear.beta";
  if (!concerned || partner(network, index) < 0) return;
  list.push_back({.row = "55",
                  .field = "delta_rule.projections",
                  .cause = "the projections of the write strength and of the decay are exchanged",
                  .expected = std::string("strength, decay"),
                  .found = std::string("decay, strength"),
                  .range = std::nullopt,
                  .apply =
                      [partner](const BoundGraph& net, int target, double, Patch& patch) {
                        const Stage& own = stage_at(net, target);
                        const bool fits =
                            std::holds_alternative<LogDecay>(own.operation) || name_in_layer(own.name, own.layer) == "linear.beta";
                        const int other = fits ? partner(net, target) : -1;
                        if (other < 0) return false;
                        patched_stage(net, target, patch).inputs[0] = stage_at(net, other).inputs[0];
                        patched_stage(net, other, patch).inputs[0] = own.inputs[0];
                        return true;
                      },
                  .rarity = 1});
}

void convolution_hypotheses(std::vector<Hypothesis>& list) {
  list.push_back(computing<Convolution>(
      {"49", "convolution.activation", "the convolution goes without its activation", std::string("as stated"), std::string("none")},
      [](const Stage& s, const StageOperands& operands, const StageContext& context) {
        // Relu splits a number into its two signs, and the sum is linear: f(x) - f(-x) is the sum itself.
        Stage positive = s;
        auto& op = std::get<Convolution>(positive.operation);
        op.activation = Activation::kRelu;
        op.activation_place = ActivationPlace::kAfter;
        std::vector<StateValue> copies;
        for (const StateValue* state : operands.states)
          copies.push_back(*state);
        StageOperands mirrored = operands;
        for (std::size_t i = 0; i < copies.size(); ++i) {
          for (double& value : std::get<ConvolutionWindow>(copies[i]).rows.data)
            value = -value;
          mirrored.states[i] = &copies[i];
        }
        Tensor negative = *operands.inputs[0];
        for (double& value : negative.data)
          value = -value;
        mirrored.inputs[0] = &negative;
        const Outputs below = run_stage(positive, mirrored, context);
        Outputs y = run_stage(positive, operands, context);
        for (std::size_t i = 0; i < y[0].data.size(); ++i)
          y[0].data[i] -= below[0].data[i];
        return y;
      }));
  for (const bool activated : {true, false}) {
    list.push_back(computing<Convolution>(
        {"55", "convolution.present", activated ? "the convolution is left out" : "the convolution is left out with its activation",
         std::string("taps"), std::string(activated ? "none" : "none, unactivated")},
        [activated](const Stage& s, const StageOperands& operands, const StageContext& context) {
          Tensor y = *operands.inputs[0];
          for (double& value : y.data)
            value = activated
                        ? context.numerics.activation(reference::activation_of(std::get<Convolution>(s.operation).activation, 1, value))
                        : value;
          return Outputs{std::move(y)};
        }));
  }
}

void window_hypotheses(std::vector<Hypothesis>& list) {
  list.push_back(
      computing<Convolution>({"55", "convolution.handover", "the convolution's window is not moved on in decode steps", true, false},
                             [](const Stage& s, const StageOperands& operands, const StageContext& context) {
                               if (operands.inputs[0]->tokens() != 1) return run_stage(s, operands, context);
                               StateValue copy = *operands.states[0];
                               StageOperands other = operands;
                               other.states[0] = &copy;
                               return run_stage(s, other, context);
                             }));
  list.back().later = true;
}

void decay_hypotheses(std::vector<Hypothesis>& list) {
  enum class Decay { kNoOffset, kOffsetLess, kOffsetBehind, kTwice, kNoSoftplus, kSigned, kSigmoid, kPlain, kPlainLess };
  const auto decay = [](Decay kind) {
    return [kind](const Stage& s, const StageOperands& operands, const StageContext& context) {
      const auto& op = std::get<LogDecay>(s.operation);
      Tensor y = *operands.inputs[0];
      const auto rates = reference::read_vector(*operands.weights[0], context.numerics);
      const auto offsets = reference::read_vector(*operands.weights[1], context.numerics);
      for (std::size_t i = 0; i < y.data.size(); ++i) {
        const std::size_t head = i % rates.size();
        const double rate = kind == Decay::kPlain             ? -std::abs(rates[head])
                            : kind == Decay::kPlainLess       ? -rates[head]
                            : op.rate == DecayRate::kMinusExp ? -std::exp(rates[head])
                                                              : rates[head];
        const double sign = kind == Decay::kNoOffset || kind == Decay::kOffsetBehind ? 0 : kind == Decay::kOffsetLess ? -1 : 1;
        const double sum = y.data[i] + sign * offsets[head];
        double step = reference::softplus(sum);
        if (kind == Decay::kNoSoftplus) step = std::abs(sum);
        if (kind == Decay::kSigned) step = sum;
        if (kind == Decay::kSigmoid) step = 1 / (1 + std::exp(-sum));
        if (kind == Decay::kTwice) step = reference::softplus(step);
        if (kind == Decay::kOffsetBehind) step += offsets[head];
        y.data[i] = context.numerics.single(rate * step);
      }
      return Outputs{std::move(y)};
    };
  };
  list.push_back(
      computing<LogDecay>({"55", "log_decay.offset", "the offset of the decay is not added", true, false}, decay(Decay::kNoOffset)));
  list.push_back(
      computing<LogDecay>({"55", "log_decay.softplus", "softplus is taken twice", std::int64_t{1}, std::int64_t{2}}, decay(Decay::kTwice)));
  list.push_back(computing<LogDecay>({"55", "log_decay.softplus", "softplus is left out", std::int64_t{1}, std::int64_t{0}},
                                     decay(Decay::kNoSoftplus)));
  list.push_back(computing<LogDecay>(
      {"55", "log_decay.rate", "the decay rate's parameter is not exponentiated", std::string("minus_exp"), std::string("minus_magnitude")},
      decay(Decay::kPlain)));
  const auto add = [&](std::string field, std::string cause, FieldValue expected, FieldValue found, Decay kind) {
    list.push_back(computing<LogDecay>({"55", std::move(field), std::move(cause), std::move(expected), std::move(found)}, decay(kind)));
  };
  add("log_decay.offset", "the offset of the decay is subtracted", std::string("added"), std::string("subtracted"), Decay::kOffsetLess);
  add("log_decay.offset", "the offset of the decay is added behind the softplus", std::string("before"), std::string("behind"),
      Decay::kOffsetBehind);
  add("log_decay.softplus", "softplus is left out, with its sign", std::string("softplus"), std::string("none"), Decay::kSigned);
  add("log_decay.softplus", "the decay has a sigmoid for its softplus", std::string("softplus"), std::string("sigmoid"), Decay::kSigmoid);
  add("log_decay.rate", "the decay rate's parameter is not exponentiated", std::string("minus_exp"), std::string("minus_parameter"),
      Decay::kPlainLess);
}

// What a state holds at the beginning of a later pass is not what the pass before left.
Hypothesis handed_on(std::string cause, std::string found, std::function<void(RecurrentMemory&)> change) {
  Hypothesis hypothesis =
      computing<DeltaRule>({"55", "delta_rule.handover", std::move(cause), std::string("as it was left"), std::move(found)},
                           [change = std::move(change)](const Stage& s, const StageOperands& operands, const StageContext& context) {
                             change(std::get<RecurrentMemory>(*operands.states[0]));
                             return run_stage(s, operands, context);
                           });
  hypothesis.later = true;
  return hypothesis;
}

void rule_hypotheses(const BoundGraph& network, const Stage& stage, std::vector<Hypothesis>& list) {
  list.push_back(handed_on("the state is forgotten between passes", "zeros",
                           [](RecurrentMemory& memory) { std::ranges::fill(memory.matrices.data, 0.0); }));
  const auto width_of = [&](std::size_t input) { return network.graph.output(stage.inputs[input]).shape.back(); };
  if (width_of(1) == width_of(2)) {
    list.push_back(handed_on("the state is handed on transposed", "transposed", [](RecurrentMemory& memory) {
      const auto n = static_cast<std::size_t>(memory.matrices.shape.back());
      for (std::size_t first = 0; first < memory.matrices.data.size(); first += n * n) {
        for (std::size_t i = 0; i < n; ++i) {
          for (std::size_t j = 0; j < i; ++j)
            std::swap(memory.matrices.data[first + i * n + j], memory.matrices.data[first + j * n + i]);
        }
      }
    }));
  }
  list.push_back(handed_on("the state is held in bfloat16 between passes", "rounded to bfloat16", [](RecurrentMemory& memory) {
    for (double& value : memory.matrices.data)
      value = double{round_to_bfloat16(static_cast<float>(value))};
  }));
  list.push_back(computing<DeltaRule>({"55", "delta_rule.state_precision", "the recurrent state is rounded behind each token",
                                       std::string("float32"), std::string("bfloat16")},
                                      [](const Stage& s, const StageOperands& operands, const StageContext& context) {
                                        Outputs all;
                                        auto& matrices = std::get<RecurrentMemory>(*operands.states[0]).matrices;
                                        for (std::int64_t t = 0; t < operands.inputs[0]->tokens(); ++t) {
                                          std::vector<Tensor> token;
                                          for (const Tensor* input : operands.inputs)
                                            token.push_back(row_alone(*input, t));
                                          StageOperands one = operands;
                                          for (std::size_t i = 0; i < token.size(); ++i)
                                            one.inputs[i] = &token[i];
                                          Outputs y = run_stage(s, one, context);
                                          for (double& value : matrices.data)
                                            value = double{round_to_bfloat16(static_cast<float>(value))};
                                          y[0] = matrices;
                                          if (t == 0) {
                                            all = std::move(y);
                                            continue;
                                          }
                                          all[0] = std::move(y[0]);
                                          append_row(all[1], y[1]);
                                        }
                                        return all;
                                      }));
  list.push_back(computing<DeltaRule>({"55", "delta_rule.read", "the state is read before the decay and the write",
                                       std::string("after_write"), std::string("before_decay")},
                                      [](const Stage& s, const StageOperands& operands, const StageContext& context) {
                                        Stage early = s;
                                        std::get<DeltaRule>(early.operation).read = ReadPlace::kBeforeWrite;
                                        Outputs out = run_stage(early, operands, context);
                                        const Tensor& g = *operands.inputs[3];
                                        const std::size_t width = out[1].data.size() / std::max<std::size_t>(g.data.size(), 1);
                                        for (std::size_t i = 0; i < out[1].data.size(); ++i)
                                          out[1].data[i] *= std::exp(-g.data[i / width]);
                                        return out;
                                      }));
  const double unit = 1 / std::sqrt(static_cast<double>(width_of(1)));
  list.push_back(scaling<DeltaRule>({"55", "delta_rule.key_scale", "the rule's keys are scaled, as its queries are", 1.0, std::monostate{}},
                                    Range{1e-3, 1e3, true, false, {unit, unit * unit}},
                                    [](const Stage& s, const StageOperands& operands, const StageContext& context, double by) {
                                      Tensor keys = *operands.inputs[1];
                                      for (double& value : keys.data)
                                        value *= by;
                                      return run_with_input(s, operands, context, 1, keys);
                                    }));
  // The rule reads the decay's logarithm: others for it are other decays.
  const auto decays = [&](std::string cause, std::string found, double (*change)(double)) {
    list.push_back(computing<DeltaRule>({"55", "delta_rule.keeps", std::move(cause), std::string("exp(g)"), std::move(found)},
                                        with_rows(3, [change](std::span<double> g) { std::ranges::transform(g, g.begin(), change); })));
  };
  decays("the state does not decay", "1", [](double) { return 0.0; });
  decays("the decay's logarithm multiplies the state, not its exponential", "1 + g",
         [](double g) { return std::log(std::max(1 + g, 1e-30)); });
  list.push_back(
      computing<DeltaRule>({"55", "delta_rule.operands", "queries and keys are exchanged", std::string("q, k"), std::string("k, q")},
                           [](const Stage& s, const StageOperands& operands, const StageContext& context) {
                             StageOperands other = operands;
                             std::swap(other.inputs[0], other.inputs[1]);
                             return run_stage(s, other, context);
                           }));
}

void gated_norm_hypotheses(std::vector<Hypothesis>& list) {
  const auto with = [](std::function<void(Tensor & values, Tensor & gate, std::vector<WeightPtr> & weights, Stage & stage)> change) {
    return [change = std::move(change)](const Stage& s, const StageOperands& operands, const StageContext& context) {
      Tensor values = *operands.inputs[0];
      Tensor gate = *operands.inputs[1];
      std::vector<WeightPtr> weights = {borrowed(operands.weights[0])};
      Stage stage = s;
      change(values, gate, weights, stage);
      StageOperands other = operands;
      other.inputs[0] = &values;
      other.inputs[1] = &gate;
      other.weights[0] = weights[0].get();
      return run_stage(stage, other, context);
    };
  };
  const auto weight_of_one = [](const Stage& stage, const WeightPtr& weight) {
    return constant({weight->row_length()}, 1 - std::get<GatedNorm>(stage.operation).norm.weight_offset);
  };
  const auto ungated = [](Stage& stage, Tensor& gate) {  // relu(1) = 1
    std::get<GatedNorm>(stage.operation).activation = Activation::kRelu;
    std::ranges::fill(gate.data, 1.0);
  };
  list.push_back(
      computing<GatedNorm>({"50", "gated_norm.gated", "the norm is not gated", true, false},
                           with([ungated](Tensor&, Tensor& gate, std::vector<WeightPtr>&, Stage& stage) { ungated(stage, gate); })));
  list.push_back(computing<GatedNorm>({"26", "gated_norm.weighted", "the gated norm goes without its weight", true, false},
                                      with([weight_of_one](Tensor&, Tensor&, std::vector<WeightPtr>& weights, Stage& stage) {
                                        weights[0] = weight_of_one(stage, weights[0]);
                                      })));
  for (const bool weighted : {true, false}) {
    list.push_back(computing<GatedNorm>(
        {"26", "gated_norm.present",
         weighted ? "the gated norm's values are not normalised" : "the gated norm is left out, the gate alone is there",
         std::string("norm, gate"), std::string(weighted ? "weight, gate" : "gate")},
        [weighted](const Stage& s, const StageOperands& operands, const StageContext& context) {
          const auto& op = std::get<GatedNorm>(s.operation);
          const auto weight = reference::read_vector(*operands.weights[0], context.numerics);
          Tensor y = *operands.inputs[0];
          for (std::size_t i = 0; i < y.data.size(); ++i) {
            const double by = weighted ? weight[i % weight.size()] + op.norm.weight_offset : 1;
            y.data[i] =
                context.numerics.activation(y.data[i] * by * reference::activation_of(op.activation, 1, operands.inputs[1]->data[i]));
          }
          return Outputs{std::move(y)};
        }));
  }
  list.push_back(computing<GatedNorm>(
      {"49", "gated_norm.activation", "the gate goes without its activation", std::string("as stated"), std::string("none")},
      [ungated](const Stage& s, const StageOperands& operands, const StageContext& context) {
        Stage stage = s;
        Tensor one = *operands.inputs[1];
        ungated(stage, one);
        std::get<GatedNorm>(stage.operation).place = GatePlace::kAfterNorm;
        Outputs y = run_with_input(stage, operands, context, 1, one);
        for (std::size_t i = 0; i < y[0].data.size(); ++i)
          y[0].data[i] = context.numerics.activation(y[0].data[i] * operands.inputs[1]->data[i]);
        return y;
      }));
}

}  // namespace

std::vector<Hypothesis> delta_hypotheses(const BoundGraph& network, int index) {
  const Stage& stage = stage_at(network, index);
  std::vector<Hypothesis> list;
  if (std::holds_alternative<L2Norm>(stage.operation)) {
    unit_hypotheses(list);
    length_hypotheses(list);
    add_where_it_applies(network, index, list,
                         {.row = "55",
                          .field = "l2_norm.operands",
                          .cause = "queries and keys are exchanged before the delta rule",
                          .expected = std::string("q, k"),
                          .found = std::string("k, q"),
                          .range = std::nullopt,
                          .apply = exchange_units,
                          .rarity = 1});
  }
  if (std::holds_alternative<Activate>(stage.operation)) activation_hypotheses(name_in_layer(stage.name, stage.layer), list);
  exchange_hypotheses(network, index, list);
  if (std::holds_alternative<Convolution>(stage.operation)) {
    convolution_hypotheses(list);
    window_hypotheses(list);
  }
  if (std::holds_alternative<LogDecay>(stage.operation)) decay_hypotheses(list);
  if (std::holds_alternative<DeltaRule>(stage.operation)) rule_hypotheses(network, stage, list);
  if (std::holds_alternative<GatedNorm>(stage.operation)) gated_norm_hypotheses(list);
  return list;
}

}  // namespace plumb
