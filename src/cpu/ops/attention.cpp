// Attention over keys and values in blocks, and attention whose keys are its values. Each query walks its keys in an order
// that its position alone decides. Of the outputs only the context is materialised.
#include <algorithm>
#include <limits>

#include "cpu/ops/ops.h"

namespace plumb::cpu {
namespace {

// Queries of one key-value head that one task takes, tokens first; the group of a head is never split. Many, because they share
// what it costs to read a block, but no more than leave each thread several tasks.
constexpr std::int64_t kMostTaskVectors = 4 * kQueriesTogether;

std::int64_t task_tokens(std::int64_t vectors, std::int64_t group, int threads) {
  const std::int64_t even = vectors / (8 * threads) / kQueriesTogether * kQueriesTogether;
  return std::max<std::int64_t>(1, std::clamp<std::int64_t>(even, kQueriesTogether, kMostTaskVectors) / group);
}

struct Task {
  std::size_t segment;
  std::int64_t kv_head;
  std::int64_t row;   // of the pass
  std::int64_t rows;
  bool keeps;  // what is attended to is not in the cache yet, and no other task attends to it
};

// [rows, heads, keys] for one sequence, or nothing.
struct Matrices {
  Array scores;
  Array probabilities;

  bool there() const { return !scores.shape.empty(); }
};

// What no query sees stays as it is here: no score, no probability.
Matrices matrices_for(const Operands& operands, const Context& context, std::int64_t keys) {
  if (!wanted(operands, 0, context) && !wanted(operands, 1, context)) return {};
  const Array& q = *operands.inputs[0];
  Matrices matrices{array_like(q, {q.shape[1], keys}, context), array_like(q, {q.shape[1], keys}, context)};
  std::fill_n(matrices.scores.data(), matrices.scores.size(), -std::numeric_limits<float>::infinity());
  std::fill_n(matrices.probabilities.data(), matrices.probabilities.size(), 0.0F);
  return matrices;
}

Outputs outputs_of(Matrices matrices, Array out) {
  Outputs outputs;
  outputs.push_back(std::move(matrices.scores));
  outputs.push_back(std::move(matrices.probabilities));
  outputs.push_back(std::move(out));
  return outputs;
}

std::int64_t query_head(const Attend& op, std::int64_t kv_head, std::int64_t i, std::int64_t group,
                        std::int64_t kv_heads) {
  return op.groups == HeadGroups::kRepeat ? kv_head * group + i : i * kv_heads + kv_head;
}

// Into the cache, which has room for them: the keys and values that heads [begin, end) have of a segment's rows.
void keep(const Operands& operands, const Context& context, const Segment& segment, std::int64_t begin, std::int64_t end) {
  const Array& k = *operands.inputs[1];
  const Array& v = *operands.inputs[2];
  auto& held = operands.state<KeyValueBlocks>(segment);
  for (std::int64_t head = begin; head < end; ++head) {
    for (std::int64_t i = 0; i < segment.rows; ++i) {
      const std::int64_t t = segment.first + i;
      held.keep(*context.kernels, segment.position + i, head, k.row(t) + head * k.shape[2], v.row(t) + head * v.shape[2]);
    }
  }
}

void run_task(const Attend& op, const Operands& operands, const Context& context, const Task& task,
              Array& out, Matrices& matrices) {
  const Array& q = *operands.inputs[0];
  const std::int64_t heads = q.shape[1];
  const std::int64_t kv_heads = operands.inputs[1]->shape[1];
  const std::int64_t group = heads / kv_heads;
  const Segment& segment = context.segments[task.segment];
  const auto& held = operands.state<KeyValueBlocks>(segment);
  if (task.keeps) {
    held.ask_for(segment.position, task.kv_head);
    keep(operands, context, segment, task.kv_head, task.kv_head + 1);
  }
  std::vector<const float*> queries;
  std::vector<float*> outputs;
  std::vector<std::int64_t> first;
  std::vector<std::int64_t> end;
  std::vector<float> sinks;
  std::vector<float*> scores;
  std::vector<float*> probabilities;
  for (std::int64_t t = task.row; t < task.row + task.rows; ++t) {
    const std::int64_t position = segment.position + t - segment.first;
    for (std::int64_t i = 0; i < group; ++i) {
      const std::int64_t head = query_head(op, task.kv_head, i, group, kv_heads);
      queries.push_back(q.row(t) + head * q.shape[2]);
      outputs.push_back(out.row(t) + head * out.shape[2]);
      end.push_back(position + 1);
      first.push_back(op.window ? std::max<std::int64_t>(0, position + 1 - *op.window) : 0);
      if (matrices.there()) {
        scores.push_back(matrices.scores.row(t) + head * held.length());
        probabilities.push_back(matrices.probabilities.row(t) + head * held.length());
      }
      if (op.sinks) sinks.push_back(operands.weights->vectors[0][static_cast<std::size_t>(head)]);
    }
  }
  std::vector<const std::uint8_t*> keys;
  std::vector<const std::uint8_t*> values;
  for (std::int64_t block = 0; block < held.blocks(); ++block) {
    keys.push_back(held.keys(block, task.kv_head));
    values.push_back(held.values(block, task.kv_head));
  }
  thread_local std::vector<float> scratch;
  scratch.resize(static_cast<std::size_t>(attend_scratch(std::ssize(queries), q.shape[2], out.shape[2])));
  const auto attend = operands.rounded_attention ? context.kernels->attend_int16 : context.kernels->attend;
  attend({.type = held.type(),
          .queries = queries.data(),
          .outputs = outputs.data(),
          .first = first.data(),
          .end = end.data(),
          .keys = keys.data(),
          .values = values.data(),
          .sinks = op.sinks ? sinks.data() : nullptr,
          .vectors = static_cast<std::int64_t>(queries.size()),
          .key_dim = q.shape[2],
          .value_dim = out.shape[2],
          .scale = static_cast<float>(op.scale),
          .soft_cap = static_cast<float>(op.soft_cap.value_or(0)),
          .scratch = scratch.data(),
          .scores = matrices.there() ? scores.data() : nullptr,
          .probabilities = matrices.there() ? probabilities.data() : nullptr});
}

}  // namespace

Outputs run(const Attend& op, const Operands& operands, const Context& context) {
  const Array& q = *operands.inputs[0];
  const Array& k = *operands.inputs[1];
  const Array& v = *operands.inputs[2];
  Array out = array_like(q, {q.shape[1], v.shape[2]}, context);
  const std::int64_t kv_heads = k.shape[1];
  const std::int64_t tokens = task_tokens(q.rows() * q.shape[1], q.shape[1] / kv_heads, context.pool->threads());
  std::vector<Task> tasks;
  std::int64_t keys = 1;
  for (std::size_t s = 0; s < context.segments.size(); ++s) {
    const Segment& segment = context.segments[s];
    auto& held = operands.state<KeyValueBlocks>(segment);
    held.grow(segment.rows);
    // Of few rows, those who attend to a head keep it first, into lines that they read anyway.
    const bool together = segment.rows <= tokens;
    if (!together) {
      for_rows(context, kv_heads, segment.rows * (k.shape[2] + v.shape[2]) * 4,
               [&](std::int64_t begin, std::int64_t end) { keep(operands, context, segment, begin, end); });
    }
    if (op.window) held.forget_before(segment.position + 1 - *op.window);
    keys = std::max(keys, held.length());
    for (std::int64_t row = 0; row < segment.rows; row += tokens) {
      for (std::int64_t h = 0; h < kv_heads; ++h)
        tasks.push_back({s, h, segment.first + row, std::min(tokens, segment.rows - row), together});
    }
  }
  Matrices matrices = matrices_for(operands, context, keys);
  std::reverse(tasks.begin(), tasks.end());  // the longest first
  for_rows(context, static_cast<std::int64_t>(tasks.size()), keys * q.shape[2] * 2,
           [&](std::int64_t begin, std::int64_t end) {
             for (std::int64_t i = begin; i < end; ++i)
               run_task(op, operands, context, tasks[static_cast<std::size_t>(i)], out, matrices);
           });
  return outputs_of(std::move(matrices), std::move(out));
}

namespace {

// The rows that the query at `position` sees: tokens of the window, then blocks in ascending order; as columns of a matrix
// of scores, in which blocks follow the tokens that are held.
std::vector<std::int64_t> visible_columns(const AttendShared& op, const Operands& operands,
                                       const WindowRows& held, std::size_t segment,
                                       std::int64_t row, std::int64_t position) {
  std::vector<std::int64_t> seen;
  const std::int64_t oldest = held.end - held.held();
  for (std::int64_t p = std::max(oldest, position + 1 - op.window); p <= position; ++p)
    seen.push_back(p - oldest);
  if (!op.blocks) return seen;
  const Array::List& entries = operands.inputs[3]->lists[segment];
  if (op.chosen) {
    const Array& chosen = *operands.inputs[4];
    std::vector<std::int64_t> blocks;
    for (std::int64_t i = 0; i < chosen.width(); ++i) {
      if (chosen.row(row)[i] >= 0) blocks.push_back(static_cast<std::int64_t>(chosen.row(row)[i]));
    }
    std::sort(blocks.begin(), blocks.end());
    for (const std::int64_t block : blocks)
      seen.push_back(held.held() + block);
    return seen;
  }
  const std::int64_t blocks = visible_blocks(*op.blocks, position, entries.rows);
  for (std::int64_t b = 0; b < blocks; ++b)
    seen.push_back(held.held() + b);
  return seen;
}

}  // namespace

Outputs run(const AttendShared& op, const Operands& operands, const Context& context) {
  const Array& q = *operands.inputs[0];
  const Array& kv = *operands.inputs[1];
  Array out = array_like(q, {q.shape[1], q.shape[2]}, context);
  Matrices matrices;
  const float* sinks = op.sinks ? operands.weights->vectors[0].data() : nullptr;
  for (std::size_t s = 0; s < context.segments.size(); ++s) {
    const Segment& segment = context.segments[s];
    auto& held = operands.state<WindowRows>(segment);
    held.rows.insert(held.rows.end(), kv.row(segment.first),
                     kv.row(segment.first) + segment.rows * kv.width());
    held.end += segment.rows;
    const Array::List entries = op.blocks ? operands.inputs[3]->lists[s] : Array::List{nullptr, 0};
    const std::int64_t columns = held.held() + entries.rows;
    matrices = matrices_for(operands, context, columns);
    const std::int64_t work = q.width() * (op.window + 1) * 2;
    for_rows(context, segment.rows, work, [&](std::int64_t begin, std::int64_t end) {
      std::vector<float> probabilities;
      std::vector<float> scores;
      std::vector<const float*> rows;
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t t = segment.first + i;
        const auto seen = visible_columns(op, operands, held, s, t, segment.position + i);
        rows.clear();
        for (const std::int64_t column : seen) {
          rows.push_back(column < held.held() ? held.rows.data() + column * held.width
                                              : entries.data + (column - held.held()) * held.width);
        }
        probabilities.resize(seen.size());
        scores.resize(seen.size());
        for (std::int64_t h = 0; h < q.shape[1]; ++h) {
          context.kernels->attend_rows({.query = q.row(t) + h * q.shape[2],
                                        .output = out.row(t) + h * q.shape[2],
                                        .rows = rows.data(),
                                        .count = static_cast<std::int64_t>(rows.size()),
                                        .width = q.shape[2],
                                        .scale = static_cast<float>(op.scale),
                                        .sink = sinks == nullptr ? nullptr : sinks + h,
                                        .probabilities = probabilities.data(),
                                        .scores = matrices.there() ? scores.data() : nullptr});
          for (std::size_t j = 0; j < seen.size() && matrices.there(); ++j) {
            matrices.scores.row(t)[h * columns + seen[j]] = scores[j];
            matrices.probabilities.row(t)[h * columns + seen[j]] = probabilities[j];
          }
        }
      }
    });
    // What the next query can see beside itself stays.
    const std::int64_t dropped = held.held() - std::min(held.window - 1, held.held());
    held.rows.erase(held.rows.begin(), held.rows.begin() + dropped * held.width);
  }
  return outputs_of(std::move(matrices), std::move(out));
}

}  // namespace plumb::cpu
