// Attention over a key-value cache. Roundings as in transformers' eager_attention_forward: scores,
// scaled scores, capped scores and probabilities in the activation dtype, softmax in float32. Keys
// are walked from the oldest visible one to the query's own, so a query's result does not depend on
// the chunk that it came in.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/check.h"
#include "reference/kernels.h"

namespace plumb::reference {

double scaled_score(double product, double scale, const Numerics& numerics) {
  return numerics.activation(numerics.activation(product) * scale);
}

void softmax(std::span<double> scores, std::optional<double> sink, WeightPrecision difference,
             const Numerics& numerics) {
  double largest = sink.value_or(-std::numeric_limits<double>::infinity());
  for (const double score : scores)
    largest = std::max(largest, score);
  const auto shifted = [&](double score) {
    return difference == WeightPrecision::kActivation ? numerics.activation(score - largest)
                                                      : score - largest;
  };
  double total = sink ? std::exp(shifted(*sink)) : 0;
  for (double& score : scores) {
    score = std::exp(shifted(score));
    total += score;
  }
  for (double& score : scores)
    score = numerics.activation(numerics.single(score / total));
}

namespace {

void append(KeyValueCache& cache, const Tensor& k, const Tensor& v, const Tensor& positions) {
  const auto grow = [](Tensor& held, const Tensor& added) {
    held.data.insert(held.data.end(), added.data.begin(), added.data.end());
    held.shape[0] += added.tokens();
  };
  grow(cache.keys, k);
  grow(cache.values, v);
  for (const double position : positions.data)
    cache.positions.push_back(static_cast<std::int64_t>(position));
}

// Where a score becomes what softmax sees, but for the mask.
double score_of(const Attend& op, double product, const Numerics& numerics) {
  double score = scaled_score(product, op.scale, numerics);
  if (op.soft_cap) {  // Gemma 2: divide, tanh and multiply, each in the activation dtype
    score = numerics.activation(std::tanh(numerics.activation(score / *op.soft_cap)));
    score = numerics.activation(score * *op.soft_cap);
  }
  return score;
}

struct Visible {
  std::size_t first;
  std::size_t count;
};

// The cached keys that a query at `position` sees; keys are in ascending order of position.
Visible visible_keys(const Attend& op, const std::vector<std::int64_t>& keys,
                     std::int64_t position) {
  const auto end = std::upper_bound(keys.begin(), keys.end(), position + op.future);
  auto begin = keys.begin();
  if (op.window) begin = std::upper_bound(keys.begin(), end, position - *op.window);
  return {static_cast<std::size_t>(begin - keys.begin()), static_cast<std::size_t>(end - begin)};
}

}  // namespace

Outputs run(const Attend& op, const StageOperands& operands, const StageContext& context) {
  const Tensor& q = *operands.inputs[0];
  const Tensor& positions = *operands.inputs[3];
  const Numerics& numerics = context.numerics;
  auto& cache = std::get<KeyValueCache>(*operands.states[0]);
  append(cache, *operands.inputs[1], *operands.inputs[2], positions);

  const auto heads = static_cast<std::size_t>(q.shape[1]);
  const auto key_dim = static_cast<std::size_t>(q.shape[2]);
  const auto kv_heads = static_cast<std::size_t>(cache.keys.shape[1]);
  const auto value_dim = static_cast<std::size_t>(cache.values.shape[2]);
  const std::size_t keys = cache.positions.size();
  const std::vector<double> sinks =
      op.sinks ? read_vector(*operands.weights[0], numerics) : std::vector<double>{};
  const bool keep = context.all_outputs;
  const Shape matrix = {q.tokens(), q.shape[1], keep ? static_cast<std::int64_t>(keys) : 0};
  Tensor scores(matrix);
  Tensor probs(matrix);
  std::fill(scores.data.begin(), scores.data.end(), -std::numeric_limits<double>::infinity());
  Tensor out = tensor_like(q, {q.shape[1], static_cast<std::int64_t>(value_dim)});

  const auto rows = static_cast<std::int64_t>(heads) * q.tokens();
  for_rows(
      context, rows, static_cast<std::int64_t>(keys * (key_dim + value_dim)),
      [&](std::int64_t begin, std::int64_t end) {
        std::vector<double> row;
        std::vector<double> sum(value_dim);
        for (std::int64_t r = begin; r < end; ++r) {
          const auto t = static_cast<std::size_t>(r) / heads;
          const auto h = static_cast<std::size_t>(r) % heads;
          const std::size_t kv =
              op.groups == HeadGroups::kRepeat ? h / (heads / kv_heads) : h % kv_heads;
          const auto [first, count] =
              visible_keys(op, cache.positions, static_cast<std::int64_t>(positions.data[t]));
          row.resize(count);
          for (std::size_t j = 0; j < count; ++j) {
            const double* key = cache.keys.data.data() + ((first + j) * kv_heads + kv) * key_dim;
            row[j] = score_of(op,
                              dot(q.data.data() + static_cast<std::size_t>(r) * key_dim, key,
                                  static_cast<std::int64_t>(key_dim)),
                              numerics);
          }
          if (keep)
            std::copy(row.begin(), row.end(),
                      scores.data.begin() + r * static_cast<std::int64_t>(keys) +
                          static_cast<std::int64_t>(first));
          // GptOss' eager_attention_forward subtracts the largest in the activation dtype; softmax
          // itself does so in float32.
          softmax(row, op.sinks ? std::optional(sinks[h]) : std::nullopt,
                  op.sinks ? WeightPrecision::kActivation : WeightPrecision::kFloat32, numerics);
          if (keep)
            std::copy(row.begin(), row.end(),
                      probs.data.begin() + r * static_cast<std::int64_t>(keys) +
                          static_cast<std::int64_t>(first));
          std::fill(sum.begin(), sum.end(), 0.0);
          for (std::size_t j = 0; j < count; ++j) {
            const double* value =
                cache.values.data.data() + ((first + j) * kv_heads + kv) * value_dim;
            for (std::size_t d = 0; d < value_dim; ++d)
              sum[d] += row[j] * value[d];
          }
          for (std::size_t d = 0; d < value_dim; ++d) {
            out.data[static_cast<std::size_t>(r) * value_dim + d] = numerics.activation(sum[d]);
          }
        }
      });
  return {std::move(scores), std::move(probs), std::move(out)};
}

}  // namespace plumb::reference
