// Numbers of another type than the engine's own: a softmax or rotary tables in two bytes, values past the largest float16.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/float_bits.h"
#include "graph/builder.h"
#include "graph/rope.h"
#include "parity/changed_weights.h"
#include "parity/computing.h"
#include "parity/weighted_values.h"

namespace plumb {
namespace {

using Round = double (*)(double);

double to_bfloat16(double value) {
  return round_to_bfloat16(static_cast<float>(value));
}

double to_float16(double value) {
  return half_to_float(float_to_half(static_cast<float>(value)));
}

constexpr std::pair<const char*, Round> kTypes[] = {{"bfloat16", to_bfloat16}, {"float16", to_float16}};

Hypothesis rounding(CauseName name, std::function<bool(const Stage&)> concerns, Computation computation) {
  Hypothesis hypothesis = computing(std::move(name), std::move(concerns), std::move(computation));
  hypothesis.rounds = true;
  return hypothesis;
}

bool is_softmax(const Stage& stage) {
  return std::holds_alternative<Attend>(stage.operation) && stage.params.empty();
}

// The probabilities, and with `scores` what they are taken from, are rounded.
Computation softmax_in(Round round, bool scores) {
  return [round, scores](const Stage& stage, const StageOperands& operands, const StageContext& context) {
    std::vector<Tensor> result = run_stage(stage, operands, context);
    const auto keys = static_cast<std::size_t>(result[0].shape.back());
    const std::size_t rows = keys > 0 ? result[0].data.size() / keys : 0;
    for (std::size_t row = 0; row < rows; ++row) {
      const auto from = std::span(result[0].data).subspan(row * keys, keys);
      const auto to = std::span(result[1].data).subspan(row * keys, keys);
      double largest = -std::numeric_limits<double>::infinity();
      for (const double score : from)
        largest = std::max(largest, scores ? round(score) : score);
      if (!std::isfinite(largest)) continue;
      double total = 0;
      for (std::size_t j = 0; j < keys; ++j)
        total += to[j] = std::isfinite(from[j]) ? std::exp((scores ? round(from[j]) : from[j]) - largest) : 0;
      for (double& prob : to)
        prob = context.numerics.activation(round(prob / total));
    }
    weigh_again(stage, operands, result, std::vector<bool>(rows, true));
    for (double& value : result[2].data)
      value = context.numerics.activation(value);
    return result;
  };
}

void softmax_hypotheses(std::vector<Hypothesis>& list) {
  for (const auto& [type, round] : kTypes) {
    for (const bool scores : {true, false}) {
      list.push_back(rounding({"48", "attend.softmax_precision", "attention's softmax is taken in a coarser type",
                               std::string("as the engine's own"), std::string(scores ? "" : "probabilities alone in ") + type},
                              is_softmax, softmax_in(round, scores)));
    }
  }
}

bool is_rope(const Stage& stage) {
  return std::holds_alternative<Rope>(stage.operation);
}

// Cosines and sines come from the stage itself: rotated, a pair (1, 0) is (cos, sin).
Computation tables_in(Round round) {
  return [round](const Stage& stage, const StageOperands& operands, const StageContext& context) {
    const auto& op = std::get<Rope>(stage.operation);
    const Tensor& x = *operands.inputs[0];
    const auto head_dim = static_cast<std::size_t>(x.shape.back());
    const auto half = static_cast<std::size_t>(op.dims / 2);
    const std::size_t begin = op.slice == RopeSlice::kFirst ? 0 : head_dim - static_cast<std::size_t>(op.dims);
    const bool split = op.pairing == RopePairing::kHalfSplit;
    const auto first_of = [&](std::size_t i) { return begin + (split ? i : 2 * i); };
    const auto second_of = [&](std::size_t i) { return begin + (split ? i + half : 2 * i + 1); };
    Tensor units({x.tokens(), 1, x.shape.back()});
    for (std::int64_t t = 0; t < x.tokens(); ++t) {
      for (std::size_t i = 0; i < half; ++i)
        units.row(t)[first_of(i)] = 1;
    }
    Stage of_units = stage;
    of_units.outputs[0].shape = {1, x.shape.back()};
    StageOperands unit = operands;
    unit.inputs[0] = &units;
    const Tensor tables = run_stage(of_units, unit, context)[0];
    Tensor y = x;
    for (std::int64_t t = 0; t < x.tokens(); ++t) {
      for (std::size_t head = 0; head < y.row(t).size(); head += head_dim) {
        for (std::size_t i = 0; i < half; ++i) {
          const double cos = round(tables.row(t)[first_of(i)]);
          const double sin = round(tables.row(t)[second_of(i)]);
          double& a = y.row(t)[head + first_of(i)];
          double& b = y.row(t)[head + second_of(i)];
          const double turned = context.numerics.activation(a * cos - b * sin);
          b = context.numerics.activation(b * cos + a * sin);
          a = turned;
        }
      }
    }
    return std::vector<Tensor>{std::move(y)};
  };
}

// What of an angle, position * frequency, is rounded: what it is made of, itself.
struct AngleRounding {
  const char* words;
  bool frequency;
  bool position;
  bool angle;
};

constexpr AngleRounding kAngleRoundings[] = {{"positions", false, true, false},
                                             {"frequencies and positions", true, true, false},
                                             {"angles", false, false, true},
                                             {"frequencies and angles", true, false, true},
                                             {"frequencies, positions and angles", true, true, true}};

// A token at a time: its angles are given by dividing the frequencies, each by what its rounding makes of it.
Computation angles_in(Round round, AngleRounding what) {
  return [round, what](const Stage& stage, const StageOperands& operands, const StageContext& context) {
    const auto& op = std::get<Rope>(stage.operation);
    const auto frequencies = inverse_frequencies<double>(op.frequencies, op.dims, context.known_length);
    const Tensor& x = *operands.inputs[0];
    const Tensor& positions = *operands.inputs[1];
    Tensor y = x;
    Stage turned = stage;
    auto& divisors = std::get<Rope>(turned.operation).frequencies.divisors;
    for (std::int64_t t = 0; t < x.tokens(); ++t) {
      const double position = positions.data[static_cast<std::size_t>(t)] + static_cast<double>(op.position_offset);
      divisors = op.frequencies.divisors;
      divisors.resize(frequencies.size(), 1);
      for (std::size_t i = 0; i < frequencies.size(); ++i) {
        const double product = (what.position ? round(position) : position) * (what.frequency ? round(frequencies[i]) : frequencies[i]);
        const double angle = what.angle ? round(product) : product;
        if (angle != 0) divisors[i] *= position * frequencies[i] / angle;
      }
      const Tensor row = row_alone(x, t);
      const Tensor place = row_alone(positions, t);
      StageOperands alone = operands;
      alone.inputs[0] = &row;
      alone.inputs[1] = &place;
      const Tensor result = run_stage(turned, alone, context)[0];
      std::ranges::copy(result.row(0), y.row(t).begin());
    }
    return Outputs{std::move(y)};
  };
}

bool is_router(const Stage& stage) {
  return std::holds_alternative<Router>(stage.operation);
}

// The scores are rounded, and what is taken of them; a choice that ties then is not looked at.
Computation scores_in(Round round) {
  return [round](const Stage& stage, const StageOperands& operands, const StageContext& context) {
    const auto& op = std::get<Router>(stage.operation);
    std::vector<Tensor> result = run_stage(stage, operands, context);
    for (double& score : result[0].data)
      score = round(score);
    for (std::int64_t t = 0; t < result[2].tokens(); ++t) {
      const auto weights = result[2].row(t);
      double sum = op.sum_epsilon;
      for (std::size_t i = 0; i < weights.size(); ++i) {
        const bool whole = op.order == RouterOrder::kScoreThenSelect && op.selection_bias != SelectionBias::kChoiceAndWeight;
        weights[i] = whole ? result[0].row(t)[static_cast<std::size_t>(result[1].row(t)[i])] : round(weights[i] / op.scale);
        sum += weights[i];
      }
      for (double& weight : weights)
        weight = weight / (op.renormalise ? sum : 1) * op.scale;
    }
    return result;
  };
}

bool is_rms_norm(const Stage& stage) {
  const auto* norm = std::get_if<Norm>(&stage.operation);
  return norm != nullptr && norm->centre == NormCentre::kNone && norm->eps_place == EpsPlace::kInsideRoot;
}

// The mean of the squares, its root and the normalised row are rounded; the weight multiplies as it does. By the span of the norm.
Computation norm_in(Round round) {
  return [round](const Stage& stage, const StageOperands& operands, const StageContext& context) {
    const auto& op = std::get<Norm>(stage.operation);
    const Tensor& x = *operands.inputs[0];
    Outputs result = run_stage(stage, operands, context);
    const auto width = static_cast<std::size_t>(x.width());
    const std::size_t span = op.span == NormSpan::kHead && x.shape.size() > 2 ? static_cast<std::size_t>(x.shape.back()) : width;
    for (std::size_t first = 0; first + span <= x.data.size(); first += span) {
      const auto row = std::span(x.data).subspan(first, span);
      double squares = 0;
      double exact = 0;
      for (const double value : row) {
        squares += round(round(value) * round(value));
        exact += value * value;
      }
      const double inverse = round(1 / std::sqrt(round(round(squares / static_cast<double>(span)) + op.eps)));
      const double right = 1 / std::sqrt(exact / static_cast<double>(span) + op.eps);
      for (std::size_t i = 0; i < span; ++i) {
        const double value = row[i];
        if (value != 0) result[0].data[first + i] *= round(round(value) * inverse) / (value * right);
      }
    }
    return result;
  };
}

// Operands and results of the product that scores the experts.
bool scores_experts(const Stage& stage) {
  return std::holds_alternative<Linear>(stage.operation) && stage.name.ends_with("moe.logits");
}

Hypothesis product_in_bfloat16() {
  Hypothesis hypothesis = rounding({"52", "router.precision", "the product that scores the experts is taken in a coarser type", std::string("float32"),
                                    std::string("bfloat16")},
                                   scores_experts, {});
  hypothesis.apply = [](const BoundGraph& network, int index, double, Patch& patch) {
    const Stage& stage = stage_at(network, index);
    if (!scores_experts(stage)) return false;
    const int weight = stage.params[0];
    patch.weights[weight] = rounded_with_offset(network.weights[static_cast<std::size_t>(weight)], 0);
    patch.computations[index] = [](const Stage& s, const StageOperands& operands, const StageContext& context) {
      Tensor x = *operands.inputs[0];
      for (double& value : x.data)
        value = to_bfloat16(value);
      Outputs result = run_with_input(s, operands, context, 0, x);
      for (double& value : result[0].data)
        value = to_bfloat16(value);
      return result;
    };
    return true;
  };
  return hypothesis;
}

// What passes 65504 is infinite from there on. About every stage at once: an engine that computes in float16 does so everywhere.
Hypothesis overflow() {
  constexpr double kLargest = 65504;
  constexpr double kRoundsUp = 65520;  // the first number that is not rounded to it
  auto hypothesis = computing(
      {"57", "run.largest", "values pass the largest float16", std::string("finite"), kLargest}, [](const Stage&) { return true; },
      [](const Stage& stage, const StageOperands& operands, const StageContext& context) {
        std::vector<Tensor> result = run_stage(stage, operands, context);
        for (Tensor& output : result) {
          for (double& value : output.data)
            value = std::abs(value) < kRoundsUp ? value : std::copysign(std::numeric_limits<double>::infinity(), value);
        }
        return result;
      });
  hypothesis.everywhere = true;
  return hypothesis;
}

}  // namespace

std::vector<Hypothesis> precision_hypotheses(const BoundGraph& network, int index) {
  const Stage& stage = stage_at(network, index);
  std::vector<Hypothesis> list;
  if (is_softmax(stage)) softmax_hypotheses(list);
  if (is_rope(stage)) {
    for (const auto& [type, round] : kTypes) {
      list.push_back(rounding({"37", "rope.table_precision", "cosines and sines are rounded to a coarser type", std::string("float32"),
                               std::string(type)},
                              is_rope, tables_in(round)));
      for (const AngleRounding& what : kAngleRoundings) {
        list.push_back(rounding({"37", "rope.angle_precision", "the rotation's angles are taken in a coarser type",
                                 std::string("float32"), fmt::format("{} in {}", what.words, type)},
                                is_rope, angles_in(round, what)));
      }
    }
  }
  if (is_rms_norm(stage)) {
    for (const auto& [type, round] : kTypes) {
      list.push_back(rounding({"25", "norm.precision", "the norm is computed in a coarser type", std::string("float32"), std::string(type)}, is_rms_norm,
                              norm_in(round)));
    }
  }
  if (scores_experts(stage)) list.push_back(product_in_bfloat16());
  if (is_router(stage)) {
    for (const auto& [type, round] : kTypes) {
      list.push_back(rounding({"52", "router.score_precision", "the router's scores are rounded to a coarser type", std::string("float32"),
                               std::string(type)},
                              is_router, scores_in(round)));
    }
  }
  const bool chooses = std::holds_alternative<Router>(stage.operation) || std::holds_alternative<Index>(stage.operation);
  if (!chooses) list.push_back(overflow());
  return list;
}

}  // namespace plumb
