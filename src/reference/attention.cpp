// Attention over a key-value cache. Roundings as in transformers' eager_attention_forward: scores,
// scaled scores, capped scores and probabilities in the activation dtype, softmax in float32. Keys
// are walked from the oldest visible one to the query's own, so a query's result does not depend on
// the chunk that it came in.
#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "core/check.h"
#include "reference/ggml.h"
#include "reference/int16.h"
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

void append(KeyValueCache& cache, const Tensor& k, const Tensor& v, const Tensor& positions,
            const Numerics& numerics, bool int16) {
  const auto grow = [&](Tensor& held, const Tensor& added, Int16Rows rows) {
    const auto before = held.data.size();
    for (const double value : added.data)
      held.data.push_back(numerics.ggml() ? as_half(value) : value);
    held.shape[0] += added.tokens();
    if (int16)
      round_int16(std::span(held.data).subspan(before), added.shape.back(), rows);
  };
  grow(cache.keys, k, Int16Rows::kByLength);
  grow(cache.values, v, Int16Rows::kByLargest);
  for (const double position : positions.data)
    cache.positions.push_back(static_cast<std::int64_t>(position));
}

// Where a score becomes what softmax sees, but for the mask.
double score_of(const Attend& op, double product, const Numerics& numerics) {
  // mlx scales the query before the product.
  double score = numerics.mlx() ? numerics.activation(product) : scaled_score(product, op.scale, numerics);
  if (op.soft_cap) {  // Gemma 2: divide, tanh and multiply, each in the activation dtype
    score = numerics.activation(std::tanh(numerics.activation(score / *op.soft_cap)));
    score = numerics.activation(score * *op.soft_cap);
  }
  return score;
}

// Queries as they meet the keys: mlx scales them first, ggml rounds them to the cache's type, our cpu executor to 16 bits.
Tensor queries_of(const Attend& op, const Tensor& q, const Numerics& numerics) {
  Tensor changed = q;
  if (numerics.engine() == Engine::kCpu) {
    round_int16(changed.data, q.shape.back(), Int16Rows::kByLength);
    return changed;
  }
  for (double& value : changed.data)
    value = numerics.mlx() ? numerics.activation(value * numerics.activation(op.scale)) : as_half(value);
  return changed;
}

// ggml's flash attention (ggml_compute_forward_flash_attn_ext_f16_one_chunk): a running softmax over the keys in order, whose
// sum over values is float16 after each. `value_of(j)` is key j's row of values.
template <class ValueOf>
void flash(std::span<const double> scores, std::optional<double> sink, ValueOf value_of, std::span<double> sum) {
  double largest = -std::numeric_limits<double>::infinity();
  double total = 0;
  std::ranges::fill(sum, 0.0);
  for (std::size_t j = 0; j < scores.size(); ++j) {
    double kept = 1;
    double weight = 1;
    if (scores[j] > largest) {
      kept = static_cast<float>(std::exp(largest - scores[j]));
      largest = scores[j];
    } else {
      weight = static_cast<float>(std::exp(scores[j] - largest));
    }
    const double* value = value_of(j);
    for (std::size_t d = 0; d < sum.size(); ++d) {
      if (kept != 1) sum[d] = as_half(sum[d] * kept);
      sum[d] = as_half(sum[d] + value[d] * weight);
    }
    total = static_cast<float>(total * kept + weight);
  }
  double kept = 1;
  if (sink) {
    kept = *sink > largest ? std::exp(largest - *sink) : 1;
    total = total * kept + (*sink > largest ? 1 : std::exp(*sink - largest));
  }
  for (double& value : sum)
    value = static_cast<float>(value * kept / total);
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
  const bool int16 = numerics.precision() == Precision::kCpuInt16 && !context.float_attention;
  append(cache, *operands.inputs[1], *operands.inputs[2], positions, numerics, int16);

  const auto heads = static_cast<std::size_t>(q.shape[1]);
  const auto key_dim = static_cast<std::size_t>(q.shape[2]);
  const auto kv_heads = static_cast<std::size_t>(cache.keys.shape[1]);
  const auto value_dim = static_cast<std::size_t>(cache.values.shape[2]);
  const std::size_t keys = cache.positions.size();
  const std::vector<double> sinks =
      op.sinks ? read_vector(*operands.weights[0], numerics) : std::vector<double>{};
  const bool keep = context.all_outputs;
  const Tensor changed = numerics.mlx() || numerics.ggml() || int16 ? queries_of(op, q, numerics) : Tensor();
  const double* queries = changed.data.empty() ? q.data.data() : changed.data.data();
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
          const Visible seen = visible_keys(op, cache.positions, static_cast<std::int64_t>(positions.data[t]));
          const std::size_t first = seen.first;
          const std::size_t count = seen.count;
          row.resize(count);
          for (std::size_t j = 0; j < count; ++j) {
            const double* key = cache.keys.data.data() + ((first + j) * kv_heads + kv) * key_dim;
            row[j] = score_of(op,
                              dot(queries + static_cast<std::size_t>(r) * key_dim, key,
                                  static_cast<std::int64_t>(key_dim)),
                              numerics);
          }
          if (keep)
            std::copy(row.begin(), row.end(),
                      scores.data.begin() + r * static_cast<std::int64_t>(keys) +
                          static_cast<std::int64_t>(first));
          const auto value_of = [&](std::size_t j) {
            return cache.values.data.data() + ((first + j) * kv_heads + kv) * value_dim;
          };
          const auto of_query = std::span(out.data).subspan(static_cast<std::size_t>(r) * value_dim, value_dim);
          if (numerics.precision() == Precision::kGgmlFlash)
            flash(row, op.sinks ? std::optional(sinks[h]) : std::nullopt, value_of, of_query);
          if (int16)
            gather_int16(row, op.sinks ? std::optional(sinks[h]) : std::nullopt, cache.positions[first], value_of, of_query);
          // GptOss' eager_attention_forward subtracts the largest in the activation dtype; softmax
          // itself does so in float32.
          softmax(row, op.sinks ? std::optional(sinks[h]) : std::nullopt,
                  op.sinks && numerics.engine() == Engine::kTransformers ? WeightPrecision::kActivation : WeightPrecision::kFloat32,
                  numerics);
          if (keep)
            std::copy(row.begin(), row.end(),
                      probs.data.begin() + r * static_cast<std::int64_t>(keys) +
                          static_cast<std::int64_t>(first));
          if (numerics.precision() == Precision::kGgmlFlash || int16) continue;
          std::fill(sum.begin(), sum.end(), 0.0);
          for (std::size_t j = 0; j < count; ++j) {
            const double* value = value_of(j);
            const double weight = numerics.ggml() ? as_half(row[j]) : row[j];
            for (std::size_t d = 0; d < value_dim; ++d)
              sum[d] += weight * value[d];
          }
          for (std::size_t d = 0; d < value_dim; ++d) {
            out.data[static_cast<std::size_t>(r) * value_dim + d] = numerics.activation(sum[d]);
          }
        }
      });
  return {std::move(scores), std::move(probs), std::move(out)};
}

}  // namespace plumb::reference
