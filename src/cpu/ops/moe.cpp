// Routed experts: the tokens of each chosen expert together, only chosen experts' weights read. Scores, choices and weights
// as in transformers' routers (models/qwen3_moe, models/deepseek_v3), in float32.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/multiply.h"
#include "cpu/ops/ops.h"

namespace plumb::cpu {
namespace {

void score(const Router& op, std::span<float> values) {
  if (op.score == RouterScore::kSoftmax) {
    const float top = *std::max_element(values.begin(), values.end());
    double total = 0;
    for (float& value : values)
      total += value = std::exp(value - top);
    const auto inverse = 1 / static_cast<float>(total);
    for (float& value : values)
      value *= inverse;
    return;
  }
  for (float& value : values)
    value = op.score == RouterScore::kSigmoid ? 1 / (1 + std::exp(-value)) : std::sqrt(softplus(value));
}

// What the choice compares: the scores with their bias, experts outside the best groups excluded.
void prepare_choice(const Router& op, std::span<const float> bias, std::span<float> scores) {
  for (std::size_t e = 0; e < bias.size(); ++e)
    scores[e] += bias[e];
  if (!op.groups) return;
  const auto groups = static_cast<std::size_t>(op.groups->groups);
  const std::size_t size = scores.size() / groups;
  std::vector<float> sums(groups, 0.0F);
  for (std::size_t g = 0; g < groups; ++g) {
    const auto members = scores.subspan(g * size, size);
    for (const std::int64_t e : largest(members, op.groups->largest))
      sums[g] += members[static_cast<std::size_t>(e)];
  }
  std::vector<bool> kept(groups, false);
  for (const std::int64_t g : largest(sums, op.groups->chosen))
    kept[static_cast<std::size_t>(g)] = true;
  for (std::size_t e = 0; e < scores.size(); ++e) {
    if (kept[e / size]) continue;
    scores[e] =
        op.groups->excluded == ExcludedScore::kZero ? 0 : -std::numeric_limits<float>::infinity();
  }
}

void weigh(const Router& op, std::span<float> chosen) {
  float total = 1;
  if (op.renormalise) {
    double sum = 0;
    for (const float weight : chosen)
      sum += weight;
    total = static_cast<float>(sum) + static_cast<float>(op.sum_epsilon);
  }
  for (float& weight : chosen)
    weight = weight / total * static_cast<float>(op.scale);
}

}  // namespace

Outputs run(const Router& op, const Operands& operands, const Context& context) {
  const Array& logits = *operands.inputs[0];
  const bool table = op.choice == RouterChoice::kTable;
  const std::vector<float> none;
  const std::vector<float>& bias =
      op.selection_bias == SelectionBias::kNone ? none : operands.weights->vectors[0];
  Array probs = array_like(logits, {op.experts}, context);
  Array ids = array_like(logits, {op.chosen}, context);
  Array weights = array_like(logits, {op.chosen}, context);
  for_rows(context, logits.rows(), op.experts * 32, [&](std::int64_t begin, std::int64_t end) {
    std::vector<double> listed(static_cast<std::size_t>(op.chosen));
    for (std::int64_t t = begin; t < end; ++t) {
      const auto own = std::span(logits.row(t), static_cast<std::size_t>(op.experts));
      const auto scores = std::span(probs.row(t), own.size());
      std::copy(own.begin(), own.end(), scores.begin());
      score(op, scores);
      const bool before = op.order == RouterOrder::kSelectThenScore;
      const auto source = before ? own : std::span<const float>(scores);
      float* chosen_ids = ids.row(t);
      if (table) {
        const float token = operands.inputs[1]->row(t)[0];
        operands.weights->stored.back()->read_row(static_cast<std::int64_t>(token), listed);
        std::copy(listed.begin(), listed.end(), chosen_ids);
      } else {
        std::vector<float> compared(source.begin(), source.end());
        prepare_choice(op, bias, compared);
        const auto best = largest(compared, op.chosen);
        std::transform(best.begin(), best.end(), chosen_ids,
                       [](std::int64_t id) { return static_cast<float>(id); });
      }
      const auto chosen = std::span(weights.row(t), static_cast<std::size_t>(op.chosen));
      for (std::size_t i = 0; i < chosen.size(); ++i) {
        const auto id = static_cast<std::size_t>(chosen_ids[i]);
        chosen[i] = source[id];
        if (op.selection_bias == SelectionBias::kChoiceAndWeight) chosen[i] += bias[id];
      }
      if (before) score(op, chosen);
      weigh(op, chosen);
    }
  });
  Outputs outputs;
  outputs.push_back(std::move(probs));
  outputs.push_back(std::move(ids));
  outputs.push_back(std::move(weights));
  return outputs;
}

namespace {

// Which rows of the gathered activations belong to which expert, and where each token's lie.
struct Routing {
  std::vector<std::int64_t> first;  // by expert, one more at the end
  std::vector<std::int64_t> token;  // by gathered row
  std::vector<float> weight;        // by gathered row
  std::vector<std::int64_t> rows;   // [tokens][chosen], ascending by expert
};

Routing route(const Array& ids, const Array& weights, std::int64_t experts) {
  Routing routing;
  routing.first.assign(static_cast<std::size_t>(experts) + 1, 0);
  const std::int64_t all = ids.size();
  for (std::int64_t i = 0; i < all; ++i)
    ++routing.first[static_cast<std::size_t>(ids.data()[i]) + 1];
  for (std::size_t e = 0; e + 1 < routing.first.size(); ++e)
    routing.first[e + 1] += routing.first[e];
  std::vector<std::int64_t> next(routing.first.begin(), routing.first.end() - 1);
  routing.token.resize(static_cast<std::size_t>(all));
  routing.weight.resize(static_cast<std::size_t>(all));
  routing.rows.resize(static_cast<std::size_t>(all));
  for (std::int64_t i = 0; i < all; ++i) {
    const std::int64_t row = next[static_cast<std::size_t>(ids.data()[i])]++;
    routing.token[static_cast<std::size_t>(row)] = i / ids.width();
    routing.weight[static_cast<std::size_t>(row)] = weights.data()[i];
    routing.rows[static_cast<std::size_t>(i)] = row;
  }
  for (auto row = routing.rows.begin(); row != routing.rows.end(); row += ids.width())
    std::sort(row, row + ids.width());
  return routing;
}

}  // namespace

Outputs run(const Experts& op, const Operands& operands, const Context& context) {
  const Array& x = *operands.inputs[0];
  const StageWeights& weights = *operands.weights;
  const Routing routing = route(*operands.inputs[1], *operands.inputs[2], op.experts);
  const auto gathered = static_cast<std::int64_t>(routing.token.size());
  Array taken({gathered, x.width()}, *context.buffers);
  Array gates({gathered, op.width}, *context.buffers);
  Array hidden({gathered, op.width}, *context.buffers);
  Array y({gathered, x.width()}, *context.buffers);
  for (std::int64_t i = 0; i < gathered; ++i)
    std::copy_n(x.row(routing.token[static_cast<std::size_t>(i)]), x.width(), taken.row(i));

  const std::size_t per_expert = op.bias ? 6 : 3;
  std::vector<Product> products;
  const auto project = [&](std::size_t e, std::size_t which, Array& from, Array& to) {
    const std::int64_t first = routing.first[e];
    const std::int64_t tokens = routing.first[e + 1] - first;
    if (tokens == 0) return;
    const std::size_t index = e * per_expert + which * (op.bias ? 2 : 1);
    products.push_back({.matrix = weights.matrices[index],
                        .x = from.row(first),
                        .x_stride = from.width(),
                        .tokens = tokens,
                        .bias = op.bias ? weights.vectors[index + 1].data() : nullptr,
                        .y = to.row(first),
                        .y_stride = to.width()});
  };
  const auto experts = static_cast<std::size_t>(op.experts);
  for (std::size_t e = 0; e < experts; ++e) {
    project(e, 0, taken, gates);
    project(e, 1, taken, hidden);
  }
  multiply(context, products);
  for_rows(context, gathered, op.width * 16, [&](std::int64_t begin, std::int64_t end) {
    gate_row(context, op.gated, gates.row(begin), hidden.row(begin), (end - begin) * op.width,
             hidden.row(begin));
  });
  products.clear();
  for (std::size_t e = 0; e < experts; ++e)
    project(e, 2, hidden, y);
  multiply(context, products);

  Array out = array_like(x, Shape(x.shape.begin() + 1, x.shape.end()), context);
  const std::int64_t chosen = operands.inputs[1]->width();
  for_rows(context, x.rows(), x.width() * chosen, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      std::fill_n(out.row(t), x.width(), 0.0F);
      for (std::int64_t i = 0; i < chosen; ++i) {
        const std::int64_t row = routing.rows[static_cast<std::size_t>(t * chosen + i)];
        const float weight = routing.weight[static_cast<std::size_t>(row)];
        for (std::int64_t d = 0; d < x.width(); ++d)
          out.row(t)[d] += weight * y.row(row)[d];
      }
    }
  });
  return one(std::move(out));
}

}  // namespace plumb::cpu
