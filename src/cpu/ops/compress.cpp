// Compressed entries: blocks of tokens pooled into one key-value each, and the choice among them, as DeepSeek-V4 has them
// (transformers, models/deepseek_v4). What is not yet a block waits in the state, so the entries are the same for every split
// of the tokens.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/ops/ops.h"

namespace plumb::cpu {

std::int64_t visible_blocks(const Blocks& blocks, std::int64_t position, std::int64_t count) {
  return std::clamp<std::int64_t>((position + blocks.ahead) / blocks.ratio, 0, count);
}

namespace {

// Channel `d` of the tokens that make an entry: softmax of the scores, then the sum of values by it.
class Pool {
 public:
  void take(const std::vector<float>& values, const std::vector<float>& scores, std::int64_t width,
            std::int64_t channel) {
    for (std::size_t at = static_cast<std::size_t>(channel); at < values.size();
         at += static_cast<std::size_t>(width)) {
      values_.push_back(values[at]);
      scores_.push_back(scores[at]);
    }
  }
  void take_zeros(std::int64_t tokens) {
    values_.insert(values_.end(), static_cast<std::size_t>(tokens), 0.0F);
    scores_.insert(scores_.end(), static_cast<std::size_t>(tokens), 0.0F);
  }
  float pooled() {
    const float top = *std::max_element(scores_.begin(), scores_.end());
    double total = 0;
    for (float& score : scores_)
      total += score = std::exp(score - top);
    double sum = 0;
    for (std::size_t s = 0; s < values_.size(); ++s)
      sum += static_cast<double>(values_[s]) * scores_[s] / total;
    values_.clear();
    scores_.clear();
    return static_cast<float>(sum);
  }

 private:
  std::vector<float> values_;
  std::vector<float> scores_;
};

void pool_block(const Compress& op, const RemainderRows& block, std::vector<float>& pooled) {
  const std::int64_t width = op.overlap ? block.width / 2 : block.width;
  Pool pool;
  for (std::int64_t d = 0; d < width; ++d) {
    if (op.overlap && !block.previous_values.empty()) {
      pool.take(block.previous_values, block.previous_scores, block.width, d);
    } else if (op.overlap && op.before_first == BeforeFirst::kZeros) {
      pool.take_zeros(op.ratio);
    }
    pool.take(block.values, block.scores, block.width, op.overlap ? width + d : d);
    pooled.push_back(pool.pooled());
  }
}

float position_of(const Compress& op, std::int64_t last_token) {
  switch (op.position) {
    case BlockPosition::kFirstToken:
      return static_cast<float>(last_token + 1 - op.ratio);
    case BlockPosition::kLastToken:
      return static_cast<float>(last_token);
    case BlockPosition::kIndex:
      return static_cast<float>((last_token + 1) / op.ratio - 1);
  }
  return static_cast<float>(last_token);
}

}  // namespace

Outputs run(const Compress& op, const Operands& operands, const Context& context) {
  const Array& values = *operands.inputs[0];
  const Array& scores = *operands.inputs[1];
  const std::int64_t width = values.width();
  std::vector<float> pooled;
  std::vector<float> at;
  std::vector<std::int64_t> counts;
  for (const Segment& segment : context.segments) {
    auto& block = operands.state<RemainderRows>(segment);
    const std::size_t before = at.size();
    for (std::int64_t i = 0; i < segment.rows; ++i) {
      const std::int64_t t = segment.first + i;
      const std::int64_t position = segment.position + i;
      block.values.insert(block.values.end(), values.row(t), values.row(t) + width);
      for (std::int64_t d = 0; d < width; ++d) {
        float score = scores.row(t)[d];
        if (op.position_bias)
          score += operands.weights->vectors[0][static_cast<std::size_t>(position % op.ratio * width + d)];
        block.scores.push_back(score);
      }
      if (static_cast<std::int64_t>(block.values.size()) < op.ratio * width) continue;
      pool_block(op, block, pooled);
      at.push_back(position_of(op, position));
      std::swap(block.previous_values, block.values);
      std::swap(block.previous_scores, block.scores);
      block.values.clear();
      block.scores.clear();
    }
    counts.push_back(static_cast<std::int64_t>(at.size() - before));
  }
  const auto blocks = static_cast<std::int64_t>(at.size());
  Outputs outputs;
  outputs.emplace_back(Shape{blocks, op.overlap ? width / 2 : width}, *context.buffers);
  outputs.emplace_back(Shape{blocks}, *context.buffers);
  std::copy(pooled.begin(), pooled.end(), outputs[0].data());
  std::copy(at.begin(), at.end(), outputs[1].data());
  outputs[0].counts = counts;
  outputs[1].counts = counts;
  return outputs;
}

Outputs run(const Collect&, const Operands& operands, const Context& context) {
  const Array& added = *operands.inputs[0];
  Array all({0, added.width()}, *context.buffers);
  std::int64_t row = 0;
  for (std::size_t s = 0; s < context.segments.size(); ++s) {
    auto& list = operands.state<ListRows>(context.segments[s]);
    const std::int64_t rows = rows_of(added, context, s);
    list.rows.insert(list.rows.end(), added.row(row), added.row(row) + rows * added.width());
    row += rows;
    all.lists.push_back({list.rows.data(), static_cast<std::int64_t>(list.rows.size()) / list.width});
  }
  Outputs outputs;
  outputs.push_back(std::move(all));
  return outputs;
}

Outputs run(const Index& op, const Operands& operands, const Context& context) {
  const Array& q = *operands.inputs[0];
  const Array& weights = *operands.inputs[1];
  const std::int64_t heads = q.shape[1];
  const std::int64_t width = q.shape[2];
  Array chosen = array_like(q, {op.chosen}, context);
  Array kept;  // [rows, entries], of one sequence, where someone wants to see it
  for (std::size_t s = 0; s < context.segments.size(); ++s) {
    const Segment& segment = context.segments[s];
    const Array::List& entries = operands.inputs[2]->lists[s];
    if (wanted(operands, 0, context)) {
      kept = array_like(q, {entries.rows}, context);
      std::fill_n(kept.data(), kept.size(), -std::numeric_limits<float>::infinity());
    }
    const auto score = [&](std::int64_t t, const float* entry) {
      float sum = 0;
      for (std::int64_t h = 0; h < heads; ++h) {
        float product = context.kernels->dot(q.row(t) + h * width, entry, width);
        if (op.rectified) product = std::max(product, 0.0F);
        sum += product * static_cast<float>(op.score_scale) *
               (weights.row(t)[h] * static_cast<float>(op.weight_scale));
      }
      return sum;
    };
    for_rows(context, segment.rows, q.width() * (entries.rows + 1), [&](std::int64_t begin, std::int64_t end) {
      std::vector<float> scores;
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t t = segment.first + i;
        const std::int64_t visible = visible_blocks(op.blocks, segment.position + i, entries.rows);
        scores.clear();
        for (std::int64_t b = 0; b < visible; ++b)
          scores.push_back(score(t, entries.data + b * width));
        if (!kept.shape.empty()) std::copy(scores.begin(), scores.end(), kept.row(t));
        const auto best = largest(scores, std::min(visible, op.chosen));
        std::fill_n(chosen.row(t), op.chosen, -1.0F);
        std::transform(best.begin(), best.end(), chosen.row(t),
                       [](std::int64_t block) { return static_cast<float>(block); });
      }
    });
  }
  Outputs outputs(2);
  outputs[0] = std::move(kept);
  outputs[1] = std::move(chosen);
  return outputs;
}

}  // namespace plumb::cpu
