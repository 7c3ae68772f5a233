// Hypotheses that no field says and no other weight makes: the stage computes something else from the same operands.
#include <algorithm>
#include <cmath>
#include <limits>

#include "graph/builder.h"
#include "parity/changed_weights.h"
#include "parity/hypothesis.h"
#include "reference/kernels.h"

namespace plumb {
namespace {

using Outputs = std::vector<Tensor>;

// What a cause is called, and what stands where.
struct Name {
  std::string row;
  std::string field;
  std::string cause;
  FieldValue expected;
  FieldValue found;
};

template <class Operation>
Hypothesis computing(Name name, Computation computation) {
  return {.row = std::move(name.row),
          .field = std::move(name.field),
          .cause = std::move(name.cause),
          .expected = std::move(name.expected),
          .found = std::move(name.found),
          .range = std::nullopt,
          .apply =
              [computation = std::move(computation)](const BoundGraph& network, int index, double,
                                                     Patch& patch) {
                if (!std::holds_alternative<Operation>(stage_at(network, index).operation))
                  return false;
                patch.computations[index] = computation;
                return true;
              },
          .rarity = 1};
}

// The same with a number that is looked for.
template <class Operation>
Hypothesis scaling(
    Name name, Range range,
    std::function<Outputs(const Stage&, const StageOperands&, const StageContext&, double)>
        computation) {
  Hypothesis hypothesis = computing<Operation>(std::move(name), {});
  hypothesis.range = std::move(range);
  hypothesis.rarity = 2;
  hypothesis.apply = [computation = std::move(computation)](const BoundGraph& network, int index,
                                                            double value, Patch& patch) {
    if (!std::holds_alternative<Operation>(stage_at(network, index).operation)) return false;
    patch.computations[index] = [computation, value](const Stage& stage,
                                                     const StageOperands& operands,
                                                     const StageContext& context) {
      return computation(stage, operands, context, value);
    };
    return true;
  };
  return hypothesis;
}

// An operand that the computation holds, without owning it.
WeightPtr borrowed(const Weight* weight) {
  return {weight, [](const Weight*) {}};
}

const Range kAnyFactor{1e-3, 1e3, true, false, {0.5, 2}};

void gate_hypotheses(const std::string& role, std::vector<Hypothesis>& list) {
  list.push_back(computing<Gated>(
      {"49", "gated.activation", "the gate goes without its activation", std::string("as stated"),
       std::string("none")},
      [](const Stage&, const StageOperands& operands, const StageContext& context) {
        Tensor y = *operands.inputs[1];
        const Tensor& gate = *operands.inputs[0];
        const std::size_t shared = y.data.size() / std::max<std::size_t>(gate.data.size(), 1);
        for (std::size_t i = 0; i < y.data.size(); ++i)
          y.data[i] = context.numerics.activation(y.data[i] * gate.data[i / shared]);
        return Outputs{std::move(y)};
      }));
  list.push_back(
      computing<Gated>({"50", "gated.present",
                        role == "mlp.act" ? "the up projection stands alone: nothing is gated"
                                          : "the output gate is not applied",
                        true, false},
                       [](const Stage&, const StageOperands& operands, const StageContext&) {
                         return Outputs{*operands.inputs[1]};
                       }));
  if (role == "mlp.act") {
    list.push_back(computing<Gated>(
        {"50", "gated.up", "the activation stands alone: it multiplies nothing", true, false},
        [](const Stage& stage, const StageOperands& operands, const StageContext& context) {
          Tensor ones = *operands.inputs[1];
          std::ranges::fill(ones.data, 1 - std::get<Gated>(stage.operation).up_offset);
          StageOperands alone = operands;
          alone.inputs[1] = &ones;
          return run_stage(stage, alone, context);
        }));
  }
  list.push_back(computing<Gated>(
      {"50", "gated.limit_sides", "the gate is clamped from below, too", std::string("above"),
       std::string("both sides")},
      [](const Stage& stage, const StageOperands& operands, const StageContext& context) {
        const auto& limit = std::get<Gated>(stage.operation).limit;
        Tensor gate = *operands.inputs[0];
        for (double& value : gate.data)
          value = limit ? std::max(value, -*limit) : value;
        StageOperands clamped = operands;
        clamped.inputs[0] = &gate;
        return run_stage(stage, clamped, context);
      }));
}

void delta_hypotheses(const Stage& stage, const std::string& role, std::vector<Hypothesis>& list) {
  const auto keep = [](const Stage&, const StageOperands& operands, const StageContext&) {
    return Outputs{*operands.inputs[0]};
  };
  if (std::holds_alternative<L2Norm>(stage.operation)) {
    list.push_back(computing<L2Norm>(
        {"55", "l2_norm.present", "queries and keys are not brought to unit length", true, false},
        [](const Stage& s, const StageOperands& operands, const StageContext& context) {
          Tensor y = *operands.inputs[0];
          for (double& value : y.data)
            value = context.numerics.single(value * std::get<L2Norm>(s.operation).scale);
          return Outputs{std::move(y)};
        }));
  }
  if (std::holds_alternative<Activate>(stage.operation)) {
    const bool strength = role == "linear.beta";
    list.push_back(computing<Activate>(
        {strength ? "55" : "49", "activate.present",
         strength ? "the write strength goes without its sigmoid" : "the activation is left out",
         true, false},
        keep));
    list.push_back(scaling<Activate>(
        {strength ? "55" : "49", "activate.factor", "the activation is multiplied", 1.0,
         std::monostate{}},
        kAnyFactor,
        [](const Stage& s, const StageOperands& operands, const StageContext& context, double by) {
          Outputs y = run_stage(s, operands, context);
          for (double& value : y[0].data)
            value *= by;
          return y;
        }));
  }
  if (std::holds_alternative<Convolution>(stage.operation)) {
    list.push_back(computing<Convolution>(
        {"49", "convolution.activation", "the convolution goes without its activation",
         std::string("as stated"), std::string("none")},
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
  }
  if (std::holds_alternative<LogDecay>(stage.operation)) {
    enum class Decay { kNoOffset, kTwice, kNoSoftplus, kPlain };
    const auto decay = [](Decay kind) {
      return [kind](const Stage& s, const StageOperands& operands, const StageContext& context) {
        const auto& op = std::get<LogDecay>(s.operation);
        Tensor y = *operands.inputs[0];
        const auto rates = reference::read_vector(*operands.weights[0], context.numerics);
        const auto offsets = reference::read_vector(*operands.weights[1], context.numerics);
        for (std::size_t i = 0; i < y.data.size(); ++i) {
          const std::size_t head = i % rates.size();
          const double rate = kind == Decay::kPlain             ? -std::abs(rates[head])
                              : op.rate == DecayRate::kMinusExp ? -std::exp(rates[head])
                                                                : rates[head];
          const double sum = y.data[i] + (kind == Decay::kNoOffset ? 0 : offsets[head]);
          double step = kind == Decay::kNoSoftplus ? std::abs(sum) : reference::softplus(sum);
          if (kind == Decay::kTwice) step = reference::softplus(step);
          y.data[i] = context.numerics.single(rate * step);
        }
        return Outputs{std::move(y)};
      };
    };
    list.push_back(computing<LogDecay>(
        {"55", "log_decay.offset", "the offset of the decay is not added", true, false},
        decay(Decay::kNoOffset)));
    list.push_back(computing<LogDecay>(
        {"55", "log_decay.softplus", "softplus is taken twice", std::int64_t{1}, std::int64_t{2}},
        decay(Decay::kTwice)));
    list.push_back(computing<LogDecay>(
        {"55", "log_decay.softplus", "softplus is left out", std::int64_t{1}, std::int64_t{0}},
        decay(Decay::kNoSoftplus)));
    list.push_back(computing<LogDecay>(
        {"55", "log_decay.rate", "the decay rate's parameter is not exponentiated",
         std::string("minus_exp"), std::string("minus_magnitude")},
        decay(Decay::kPlain)));
  }
}

void slice_hypotheses(const BoundGraph& network, const Stage& stage,
                      std::vector<Hypothesis>& list) {
  const auto& slice = std::get<Slice>(stage.operation);
  const std::int64_t width = element_count(network.graph.output(stage.inputs[0]).shape).value_or(0);
  const std::int64_t count = element_count(slice.out).value_or(0);
  if (width != 2 * count || slice.groups < 1 || count % slice.groups != 0) return;
  const std::int64_t part = count / slice.groups;
  const auto add = [&](std::string cause, std::string expected, std::string found,
                       std::int64_t groups, std::int64_t first) {
    list.push_back({.row = "14",
                    .field = "slice.layout",
                    .cause = std::move(cause),
                    .expected = std::move(expected),
                    .found = std::move(found),
                    .range = std::nullopt,
                    .apply =
                        [groups, first](const BoundGraph& net, int index, double, Patch& patch) {
                          Stage& target = patched_stage(net, index, patch);
                          auto* op = std::get_if<Slice>(&target.operation);
                          if (op == nullptr) return false;
                          op->groups = groups;
                          op->first = first;
                          return true;
                        },
                    .rarity = 1});
  };
  add("the two halves of each head are exchanged", std::string("query, gate"),
      std::string("gate, query"), slice.groups, slice.first == 0 ? part : 0);
  if (slice.groups > 1) {
    add("a projection that is fused head by head is split in two blocks", std::string("by head"),
        std::string("in blocks"), 1, slice.first == 0 ? 0 : count);
  }
}

void stream_hypotheses(std::vector<Hypothesis>& list) {
  list.push_back(computing<HyperConnection>(
      {"72", "hyper_connection.comb", "the mixing matrix is transposed", std::string("as stored"),
       std::string("transposed")},
      [](const Stage& stage, const StageOperands& operands, const StageContext& context) {
        const auto& op = std::get<HyperConnection>(stage.operation);
        Outputs out = run_stage(stage, operands, context);
        if (!op.mixes) return out;
        // The logits are transposed before the rows are balanced: rows and columns trade places in the parameters.
        const auto n = op.streams;
        std::vector<std::int64_t> order;
        for (std::int64_t i = 0; i < 2 * n; ++i)
          order.push_back(i);
        for (std::int64_t i = 0; i < n * n; ++i)
          order.push_back(2 * n + i % n * n + i / n);
        const WeightPtr fn = reordered_rows(borrowed(operands.weights[0]), order);
        const WeightPtr base = reordered_rows(borrowed(operands.weights[1]), order);
        StageOperands transposed = operands;
        transposed.weights[0] = fn.get();
        transposed.weights[1] = base.get();
        return run_stage(stage, transposed, context);
      }));
  list.push_back(computing<HyperConnection>(
      {"73", "hyper_connection.norm", "the hyper-connection's input is not normalised", true,
       false},
      [](const Stage& stage, const StageOperands& operands, const StageContext& context) {
        const auto& op = std::get<HyperConnection>(stage.operation);
        const Tensor& x = *operands.inputs[0];
        Outputs all;
        for (std::int64_t t = 0; t < x.tokens(); ++t) {
          Shape shape = x.shape;
          shape[0] = 1;
          Tensor one(shape);
          std::copy(x.row(t).begin(), x.row(t).end(), one.data.begin());
          double squares = 0;
          for (const double value : one.data)
            squares += value * value;
          const double root =
              std::sqrt(squares / static_cast<double>(one.data.size()) + op.norm_eps);
          const WeightPtr scale = scaled(borrowed(operands.weights[2]), root);
          StageOperands plain = operands;
          plain.inputs[0] = &one;
          plain.weights[2] = scale.get();
          Outputs row = run_stage(stage, plain, context);
          for (std::size_t o = 0; o < row.size(); ++o) {
            if (t == 0) {
              all.push_back(row[o]);
              continue;
            }
            all[o].data.insert(all[o].data.end(), row[o].data.begin(), row[o].data.end());
            ++all[o].shape[0];
          }
        }
        return all;
      }));
}

void compress_hypotheses(const Stage& stage, std::vector<Hypothesis>& list) {
  if (!std::get<Compress>(stage.operation).overlap) return;
  list.push_back(computing<Compress>(
      {"74", "compress.halves", "the halves for a token's own block and the next are exchanged",
       std::string("next, own"), std::string("own, next")},
      [](const Stage& s, const StageOperands& operands, const StageContext& context) {
        const auto exchange = [](const Tensor& x) {
          Tensor y = x;
          for (std::int64_t t = 0; t < y.tokens(); ++t)
            std::rotate(y.row(t).begin(), y.row(t).begin() + y.width() / 2, y.row(t).end());
          return y;
        };
        const Tensor values = exchange(*operands.inputs[0]);
        const Tensor scores = exchange(*operands.inputs[1]);
        StageOperands other = operands;
        other.inputs[0] = &values;
        other.inputs[1] = &scores;
        WeightPtr bias;
        if (!operands.weights.empty()) {
          bias = exchanged_halves(borrowed(operands.weights[0]));
          other.weights[0] = bias.get();
        }
        return run_stage(s, other, context);
      }));
  list.push_back(computing<Compress>(
      {"75", "compress.overlap", "blocks do not overlap: the block before does not count", true,
       false},
      [](const Stage& s, const StageOperands& operands, const StageContext& context) {
        constexpr double kNever = -1e30;
        Tensor scores = *operands.inputs[1];
        for (std::int64_t t = 0; t < scores.tokens(); ++t)
          std::fill_n(scores.row(t).begin(), scores.width() / 2, kNever);
        StageOperands alone = operands;
        alone.inputs[1] = &scores;
        return run_stage(s, alone, context);
      }));
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
  if (!std::get<Experts>(stage.operation).bias) return;
  list.push_back(computing<Experts>(
      {"53", "experts.bias_place", "the experts' down bias is not weighted", std::string("inside"),
       std::string("outside")},
      [](const Stage& s, const StageOperands& operands, const StageContext& context) {
        constexpr std::size_t kPerExpert = 6;  // gate, up and down, each with its bias
        Outputs y = run_stage(s, operands, context);
        const Tensor& ids = *operands.inputs[1];
        const Tensor& weights = *operands.inputs[2];
        for (std::int64_t t = 0; t < ids.tokens(); ++t) {
          for (std::size_t i = 0; i < ids.row(t).size(); ++i) {
            const auto expert = static_cast<std::size_t>(ids.row(t)[i]);
            const auto bias = reference::read_vector(*operands.weights.at(expert * kPerExpert + 5),
                                                     context.numerics);
            for (std::size_t d = 0; d < bias.size(); ++d)
              y[0].row(t)[d] += (1 - weights.row(t)[i]) * bias[d];
          }
        }
        return y;
      }));
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
  list.push_back(computing<Add>(
      {"28", "add.branch", "the branch is not added: the layer's half is left out", true, false},
      [](const Stage&, const StageOperands& operands, const StageContext&) {
        return Outputs{*operands.inputs[0]};
      }));
  list.push_back(scaling<Add>(
      {"28", "add.residual_factor", "the residual stream is multiplied before the branch joins it",
       1.0, std::monostate{}},
      kAnyFactor,
      [](const Stage& s, const StageOperands& operands, const StageContext& context, double by) {
        Tensor x = *operands.inputs[0];
        for (double& value : x.data)
          value = context.numerics.activation(value * by);
        StageOperands multiplied = operands;
        multiplied.inputs[0] = &x;
        return run_stage(s, multiplied, context);
      }));
}

}  // namespace

std::vector<Hypothesis> computed_hypotheses(const BoundGraph& network, int index) {
  const Stage& stage = stage_at(network, index);
  const std::string role = name_in_layer(stage.name, stage.layer);
  std::vector<Hypothesis> list;
  if (std::holds_alternative<Gated>(stage.operation)) gate_hypotheses(role, list);
  delta_hypotheses(stage, role, list);
  if (std::holds_alternative<Slice>(stage.operation)) slice_hypotheses(network, stage, list);
  if (std::holds_alternative<HyperConnection>(stage.operation)) stream_hypotheses(list);
  if (std::holds_alternative<Compress>(stage.operation)) compress_hypotheses(stage, list);
  if (std::holds_alternative<Experts>(stage.operation)) expert_hypotheses(stage, list);
  if (std::holds_alternative<Logits>(stage.operation)) logits_hypotheses(stage, list);
  if (std::holds_alternative<Add>(stage.operation)) add_hypotheses(list);
  return list;
}

}  // namespace plumb
