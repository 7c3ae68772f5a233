// Attention whose keys are its values, over a window and over compressed entries. Reference:
// transformers, models/deepseek_v4/modeling_deepseek_v4.py, DeepseekV4Attention and its
// eager_attention_forward: scores in the activation dtype, softmax in float32 because the sinks are.
// Keys are walked from the oldest token to the query's own, then block by block, so a query's result
// does not depend on the chunk that it came in.
#include <algorithm>
#include <limits>

#include "reference/kernels.h"

namespace plumb::reference {
namespace {

// The rows that one query sees: tokens of the window, then blocks; by index into the columns of a
// score matrix, in which blocks follow the held tokens.
std::vector<std::size_t> visible_columns(const AttendShared& op, const StageOperands& operands,
                                         const TokenWindow& held, std::int64_t token) {
  const double at = operands.inputs[2]->data[static_cast<std::size_t>(token)];
  const auto position = static_cast<std::int64_t>(at);
  std::vector<std::size_t> columns;
  const auto begin =
      std::upper_bound(held.positions.begin(), held.positions.end(), position - op.window);
  const auto end = std::upper_bound(begin, held.positions.end(), position);
  for (auto i = begin; i != end; ++i)
    columns.push_back(static_cast<std::size_t>(i - held.positions.begin()));
  if (!op.blocks) return columns;
  const std::size_t first_block = held.positions.size();
  if (op.chosen) {
    const auto chosen = operands.inputs[4]->row(token);
    const std::size_t window_columns = columns.size();
    const auto held_blocks = static_cast<double>(operands.inputs[3]->tokens());
    for (const double block : chosen) {  // a captured choice may name blocks that are not there
      if (block >= 0 && block < held_blocks) columns.push_back(first_block + static_cast<std::size_t>(block));
    }
    std::sort(columns.begin() + static_cast<std::ptrdiff_t>(window_columns), columns.end());
    return columns;
  }
  const std::int64_t blocks = visible_blocks(*op.blocks, at, operands.inputs[3]->tokens());
  for (std::int64_t b = 0; b < blocks; ++b)
    columns.push_back(first_block + static_cast<std::size_t>(b));
  return columns;
}

void append(TokenWindow& held, const Tensor& kv, const Tensor& positions) {
  held.rows.data.insert(held.rows.data.end(), kv.data.begin(), kv.data.end());
  held.rows.shape[0] += kv.tokens();
  for (const double position : positions.data)
    held.positions.push_back(static_cast<std::int64_t>(position));
}

// Leaves what the next query can see beside itself.
void forget(TokenWindow& held) {
  const std::int64_t kept = std::min(held.window - 1, held.rows.tokens());
  const std::int64_t dropped = held.rows.tokens() - kept;
  held.rows.data.erase(held.rows.data.begin(),
                       held.rows.data.begin() + dropped * held.rows.width());
  held.rows.shape[0] = kept;
  held.positions.erase(held.positions.begin(), held.positions.begin() + dropped);
}

}  // namespace

Outputs run(const AttendShared& op, const StageOperands& operands, const StageContext& context) {
  const Tensor& q = *operands.inputs[0];
  const Numerics& numerics = context.numerics;
  auto& held = std::get<TokenWindow>(*operands.states[0]);
  append(held, *operands.inputs[1], *operands.inputs[2]);
  const Tensor none({0, q.shape[2]});
  const Tensor& entries = op.blocks ? *operands.inputs[3] : none;
  const auto sinks = op.sinks ? read_vector(*operands.weights[0], Numerics(Precision::kFp32))
                              : std::vector<double>{};
  const auto heads = static_cast<std::size_t>(q.shape[1]);
  const auto width = static_cast<std::size_t>(q.shape[2]);
  const std::int64_t columns = held.rows.tokens() + entries.tokens();
  const Shape matrix = {q.tokens(), q.shape[1], context.all_outputs ? columns : 0};
  Tensor scores(matrix);
  Tensor probs(matrix);
  std::ranges::fill(scores.data, -std::numeric_limits<double>::infinity());
  Tensor out(q.shape);
  const auto key = [&](std::size_t column) {
    const auto tokens = static_cast<std::size_t>(held.rows.tokens());
    return column < tokens ? held.rows.data.data() + column * width
                           : entries.data.data() + (column - tokens) * width;
  };
  for_rows(context, q.tokens(), columns * q.width(), [&](std::int64_t begin, std::int64_t end) {
    std::vector<double> row;
    for (std::int64_t t = begin; t < end; ++t) {
      const auto seen = visible_columns(op, operands, held, t);
      row.resize(seen.size());
      for (std::size_t h = 0; h < heads; ++h) {
        const std::size_t vector = static_cast<std::size_t>(t) * heads + h;
        const auto record = [&](Tensor& into) {
          for (std::size_t j = 0; j < seen.size() && context.all_outputs; ++j)
            into.data[vector * static_cast<std::size_t>(columns) + seen[j]] = row[j];
        };
        for (std::size_t j = 0; j < seen.size(); ++j) {
          row[j] = scaled_score(
              dot(q.data.data() + vector * width, key(seen[j]), static_cast<std::int64_t>(width)),
              op.scale, numerics);
        }
        record(scores);
        softmax(row, op.sinks ? std::optional(sinks[h]) : std::nullopt, WeightPrecision::kFloat32,
                numerics);
        record(probs);
        const auto sum = std::span(out.data).subspan(vector * width, width);
        for (std::size_t j = 0; j < seen.size(); ++j) {
          for (std::size_t d = 0; d < width; ++d)
            sum[d] += row[j] * key(seen[j])[d];
        }
        for (double& value : sum)
          value = numerics.activation(value);
      }
    }
  });
  forget(held);
  return {std::move(scores), std::move(probs), std::move(out)};
}

}  // namespace plumb::reference
