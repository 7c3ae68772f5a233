// Compressed entries: blocks of tokens pooled into one key-value each, and the choice among them.
// Reference: transformers, models/deepseek_v4/modeling_deepseek_v4.py, DeepseekV4CSACompressor,
// DeepseekV4HCACompressor and DeepseekV4Indexer. What is not yet a block waits in the state, so the
// entries are the same for every split of the tokens.
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "reference/kernels.h"

namespace plumb::reference {
namespace {

void append_row(Tensor& held, std::span<const double> row) {
  held.data.insert(held.data.end(), row.begin(), row.end());
  ++held.shape[0];
}

// One channel of the tokens that make an entry.
struct Channel {
  std::vector<double> values;
  std::vector<double> scores;

  void take(const Tensor& from_values, const Tensor& from_scores, std::size_t channel) {
    for (std::int64_t s = 0; s < from_values.tokens(); ++s) {
      values.push_back(from_values.row(s)[channel]);
      scores.push_back(from_scores.row(s)[channel]);
    }
  }

  double pooled(const Numerics& numerics) {
    softmax(scores, std::nullopt, WeightPrecision::kFloat32, numerics);
    double sum = 0;
    for (std::size_t s = 0; s < values.size(); ++s)
      sum += numerics.activation(values[s] * scores[s]);
    return numerics.activation(sum);
  }
};

void pool(const Compress& op, const Remainder& block, const Numerics& numerics, Tensor& pooled) {
  const auto width = static_cast<std::size_t>(pooled.shape[1]);
  const Tensor zeros({op.ratio, block.values.shape[1]});
  const bool first = block.previous_values.tokens() == 0;
  std::vector<double> row(width);
  for (std::size_t d = 0; d < width; ++d) {
    Channel channel;
    if (op.overlap) {
      if (!first) channel.take(block.previous_values, block.previous_scores, d);
      if (first && op.before_first == BeforeFirst::kZeros) channel.take(zeros, zeros, d);
    }
    channel.take(block.values, block.scores, op.overlap ? width + d : d);
    row[d] = channel.pooled(numerics);
  }
  append_row(pooled, row);
}

double position_of(const Compress& op, double last_token) {
  switch (op.position) {
    case BlockPosition::kFirstToken:
      return last_token + 1 - static_cast<double>(op.ratio);
    case BlockPosition::kLastToken:
      return last_token;
    case BlockPosition::kIndex:
      return (last_token + 1) / static_cast<double>(op.ratio) - 1;
  }
  return last_token;
}

double score_block(const Index& op, std::span<const double> q, std::span<const double> weights,
                   std::span<const double> entry, const Numerics& numerics) {
  double score = 0;
  for (std::size_t h = 0; h < weights.size(); ++h) {
    double product = numerics.single(
        dot(q.data() + h * entry.size(), entry.data(), static_cast<std::int64_t>(entry.size())));
    if (op.rectified) product = std::max(product, 0.0);
    product = numerics.single(product * op.score_scale);
    const double weight = numerics.single(weights[h] * op.weight_scale);
    score += numerics.single(product * weight);
  }
  return numerics.single(score);
}

}  // namespace

std::int64_t visible_blocks(const Blocks& blocks, double position, std::int64_t count) {
  const std::int64_t complete = (static_cast<std::int64_t>(position) + blocks.ahead) / blocks.ratio;
  return std::clamp<std::int64_t>(complete, 0, count);
}

Outputs run(const Compress& op, const StageOperands& operands, const StageContext& context) {
  const Tensor& values = *operands.inputs[0];
  const Tensor& scores = *operands.inputs[1];
  const Tensor& positions = *operands.inputs[2];
  const Numerics& numerics = context.numerics;
  const auto width = static_cast<std::size_t>(values.width());
  const auto bias = op.position_bias ? read_vector(*operands.weights[0], Numerics(Precision::kFp32))
                                     : std::vector<double>{};
  auto& block = std::get<Remainder>(*operands.states[0]);
  Tensor pooled({0, values.width() / (op.overlap ? 2 : 1)});
  Tensor at({0});
  std::vector<double> biased(width);
  for (std::int64_t t = 0; t < values.tokens(); ++t) {
    const double position = positions.data[static_cast<std::size_t>(t)];
    const auto slot = static_cast<std::size_t>(static_cast<std::int64_t>(position) % op.ratio);
    std::ranges::copy(scores.row(t), biased.begin());
    for (std::size_t d = 0; d < width && op.position_bias; ++d)
      biased[d] = numerics.single(biased[d] + bias[slot * width + d]);
    append_row(block.values, values.row(t));
    append_row(block.scores, biased);
    if (block.values.tokens() < op.ratio) continue;
    pool(op, block, numerics, pooled);
    at.data.push_back(position_of(op, position));
    ++at.shape[0];
    block.previous_values = std::exchange(block.values, Tensor({0, values.width()}));
    block.previous_scores = std::exchange(block.scores, Tensor({0, values.width()}));
  }
  return {std::move(pooled), std::move(at)};
}

Outputs run(const Collect&, const StageOperands& operands, const StageContext&) {
  const Tensor& added = *operands.inputs[0];
  Tensor& rows = std::get<RowList>(*operands.states[0]).rows;
  rows.data.insert(rows.data.end(), added.data.begin(), added.data.end());
  rows.shape[0] += added.tokens();
  return {rows};
}

Outputs run(const Index& op, const StageOperands& operands, const StageContext& context) {
  const Tensor& q = *operands.inputs[0];
  const Tensor& weights = *operands.inputs[1];
  const Tensor& entries = *operands.inputs[2];
  const Tensor& positions = *operands.inputs[3];
  Tensor scores = tensor_like(q, {entries.tokens()});
  std::ranges::fill(scores.data, -std::numeric_limits<double>::infinity());
  Tensor chosen = tensor_like(q, {op.chosen});
  std::ranges::fill(chosen.data, -1);
  for_rows(
      context, q.tokens(), q.width() * entries.tokens(), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t t = begin; t < end; ++t) {
          const auto visible = static_cast<std::size_t>(visible_blocks(
              op.blocks, positions.data[static_cast<std::size_t>(t)], entries.tokens()));
          const auto row = scores.row(t);
          for (std::size_t b = 0; b < visible; ++b) {
            row[b] = score_block(op, q.row(t), weights.row(t),
                                 entries.row(static_cast<std::int64_t>(b)), context.numerics);
          }
          const auto best =
              largest(row.first(visible), std::min(visible, static_cast<std::size_t>(op.chosen)));
          std::ranges::copy(best, chosen.row(t).begin());
        }
      });
  return {std::move(scores), std::move(chosen)};
}

}  // namespace plumb::reference
