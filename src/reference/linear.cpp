// Projections: the embedding's rows, y = W x + b, and the head. transformers rounds a projection
// once, after the bias.
#include <algorithm>
#include <array>
#include <cmath>
#include <span>

#include "core/check.h"
#include "reference/ggml.h"
#include "reference/int16.h"
#include "reference/kernels.h"

namespace plumb::reference {
namespace {

constexpr std::int64_t kMinSharedCost =
    1 << 15;  // multiplications below which waking threads costs more than it saves

void multiply_transposed(const Tensor& x, const Weight& weight, const std::vector<double>& bias,
                         const StageContext& context, const std::function<double(double)>& round,
                         Tensor& y) {
  const Numerics& numerics = context.numerics;
  std::vector<double> row(static_cast<std::size_t>(weight.row_length()));
  std::vector<double> sums(y.data.size(), 0.0);
  for (std::int64_t i = 0; i < weight.rows(); ++i) {  // row i multiplies input channel i
    weight.read_row(i, row);
    for (std::int64_t t = 0; t < x.tokens(); ++t) {
      const double factor = x.row(t)[static_cast<std::size_t>(i)];
      double* out = sums.data() + t * weight.row_length();
      for (std::size_t o = 0; o < row.size(); ++o)
        out[o] += numerics.parameter(row[o]) * factor;
    }
  }
  for (std::size_t i = 0; i < sums.size(); ++i) {
    y.data[i] = round(bias.empty() ? sums[i] : sums[i] + bias[i % row.size()]);
  }
}

// mlx's CPU kernels for packed rows (backend/cpu/quantized.cpp, _qmm_t and fp_qmm_t): every step in the activation dtype.
double packed_dot(const GroupedRow& row, std::span<const double> x, const Numerics& numerics) {
  const auto r = [&](double value) { return numerics.activation(value); };
  double sum = 0;
  for (std::size_t first = 0; first < x.size(); first += row.group) {
    const double scale = r(row.scales[first / row.group]);
    const std::size_t end = std::min(first + row.group, x.size());
    double inner = 0;
    for (std::size_t i = first; i < end; ++i) {
      if (row.offsets.empty()) {
        inner = r(inner + r(x[i] * row.codes[i]));
      } else {
        const double weight = r(r(scale * row.codes[i]) + r(row.offsets[first / row.group]));
        sum = r(sum + r(x[i] * weight));
      }
    }
    if (row.offsets.empty()) sum = r(sum + r(scale * inner));
  }
  return sum;
}

}  // namespace

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define PLUMB_EACH_VECTOR_WIDTH __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define PLUMB_EACH_VECTOR_WIDTH
#endif

PLUMB_EACH_VECTOR_WIDTH
double
dot(const double* a, const double* b, std::int64_t n) {
  constexpr std::int64_t kLanes = 16;
  double sums[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane)
      sums[lane] += a[i + lane] * b[i + lane];
  }
  for (std::int64_t lane = 0; i + lane < n; ++lane)
    sums[lane] += a[i + lane] * b[i + lane];
  double total = 0;
  for (const double sum : sums)
    total += sum;
  return total;
}

namespace {

using Eight = double __attribute__((vector_size(64)));

inline void load_eight(const double* from, Eight& to) {
  __builtin_memcpy(&to, from, sizeof(to));
}

// dot() of some rows with tokens x and y, to its bits: every sum keeps its sixteen lanes, and what is loaded serves several.
template <int kRows>
[[gnu::always_inline]] inline void dots(const double* const* rows, const double* x, const double* y, std::int64_t n, double* out) {
  constexpr std::int64_t kLanes = 16;
  Eight sums[2 * kRows][2] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int half = 0; half < 2; ++half) {
      Eight xs;
      Eight ys;
      load_eight(x + i + 8 * half, xs);
      load_eight(y + i + 8 * half, ys);
      for (int r = 0; r < kRows; ++r) {
        Eight w;
        load_eight(rows[r] + i + 8 * half, w);
        sums[2 * r][half] += w * xs;
        sums[2 * r + 1][half] += w * ys;
      }
    }
  }
  for (int s = 0; s < 2 * kRows; ++s) {
    const double* row = rows[s / 2];
    const double* token = s % 2 == 0 ? x : y;
    double lanes[kLanes];
    __builtin_memcpy(lanes, sums[s], sizeof(lanes));
    for (std::int64_t lane = 0; i + lane < n; ++lane)
      lanes[lane] += row[i + lane] * token[i + lane];
    double total = 0;
    for (const double sum : lanes)
      total += sum;
    out[s] = total;
  }
}

PLUMB_EACH_VECTOR_WIDTH
void
dots_of_two(const double* const* rows, const double* x, const double* y, std::int64_t n, double* out) {
  dots<2>(rows, x, y, n, out);
}

#if defined(__x86_64__)
// Sixteen sums of eight lanes, for which other instruction sets have too few registers.
__attribute__((target("avx512f"))) void dots_of_four(const double* const* rows, const double* x, const double* y, std::int64_t n, double* out) {
  dots<4>(rows, x, y, n, out);
}

bool has_avx512() {
  static const bool has = __builtin_cpu_supports("avx512f") != 0;
  return has;
}
#else
void dots_of_four(const double* const* rows, const double* x, const double* y, std::int64_t n, double* out) {
  dots<4>(rows, x, y, n, out);
}

bool has_avx512() {
  return false;
}
#endif

constexpr std::size_t kMostRows = 4;  // at a time

}  // namespace

std::vector<double> read_vector(const Weight& weight, const Numerics& numerics) {
  std::vector<double> values(static_cast<std::size_t>(weight.rows() * weight.row_length()));
  for (std::int64_t row = 0; row < weight.rows(); ++row) {
    weight.read_row(row,
                    std::span(values).subspan(static_cast<std::size_t>(row * weight.row_length()),
                                              static_cast<std::size_t>(weight.row_length())));
  }
  for (double& value : values)
    value = numerics.parameter(value);
  return values;
}

void for_rows(const StageContext& context, std::int64_t rows, std::int64_t cost_per_row,
              const std::function<void(std::int64_t, std::int64_t)>& work) {
  if (context.pool == nullptr || rows * cost_per_row < kMinSharedCost) {
    if (rows > 0) work(0, rows);
    return;
  }
  context.pool->for_rows(rows, work);
}

Tensor tensor_like(const Tensor& x, const Shape& token_shape) {
  Shape shape{x.tokens()};
  shape.insert(shape.end(), token_shape.begin(), token_shape.end());
  return Tensor(std::move(shape));
}

void multiply(const Tensor& input, const Weight& weight, const Weight* bias_weight, WeightOrder order,
              const StageContext& context, Tensor& y, WeightPrecision result) {
  const Numerics& numerics = context.numerics;
  const Tensor rounded =
      numerics.rounds_operands() ? as_operand(input, weight.element_type(), weight.row_length(), numerics) : Tensor();
  const Tensor& x = numerics.rounds_operands() ? rounded : input;
  const Tensor roundings =
      numerics.ggml() && weight.stored_dtype() ? sum_roundings(input, weight.stored_dtype(), weight.row_length()) : Tensor();
  const std::vector<double> bias =
      bias_weight == nullptr ? std::vector<double>{} : read_vector(*bias_weight, numerics);
  const auto round = [&](double value) {
    return result == WeightPrecision::kFloat32 ? numerics.single(value)
                                               : numerics.activation(value);
  };
  if (order == WeightOrder::kInOut) return multiply_transposed(x, weight, bias, context, round, y);
  const std::int64_t in = weight.row_length();
  const std::int64_t groups = x.width() / in;
  PLUMB_CHECK(x.width() == groups * in && y.width() == weight.rows() &&
              weight.rows() % groups == 0);
  const bool int16 = numerics.precision() == Precision::kCpuInt16 && weight.element_type() && is_cpu_int16(*weight.element_type());
  // Some rows at a time, for two tokens at a time.
  const bool joined = groups == 1 && x.tokens() > 1 && roundings.data.empty() && !(numerics.mlx() && weight.grouped_row(0));
  for_rows(context, weight.rows(), in * (x.tokens() + 1),
           [&](std::int64_t begin, std::int64_t end) {
             std::vector<double> row(static_cast<std::size_t>(in));
             std::array<std::vector<double>, kMostRows> several;
             const auto read = [&](std::int64_t o, std::vector<double>& into) {
               into.resize(static_cast<std::size_t>(in));
               weight.read_row(o, into);
               if (int16) round_int16_weights(into);
               if (!numerics.narrow()) return;
               for (double& value : into)
                 value = numerics.parameter(value);
             };
             for (std::int64_t o = begin; o < end; ++o) {
               const std::size_t together = !joined ? 1 : has_avx512() && o + 4 <= end ? 4 : o + 2 <= end ? 2 : 1;
               if (together > 1) {
                 const double* rows[kMostRows];
                 for (std::size_t r = 0; r < together; ++r) {
                   read(o + static_cast<std::int64_t>(r), several[r]);
                   rows[r] = several[r].data();
                 }
                 for (std::int64_t t = 0; t < x.tokens(); t += 2) {
                   const std::int64_t other = std::min(t + 1, x.tokens() - 1);  // an odd one counts twice
                   double sums[2 * kMostRows];
                   (together == 4 ? dots_of_four : dots_of_two)(rows, x.row(t).data(), x.row(other).data(), in, sums);
                   for (std::size_t s = 0; s < 2 * together; ++s) {
                     const auto at = static_cast<std::size_t>(o) + s / 2;
                     y.row(s % 2 == 0 ? t : other)[at] = round(bias.empty() ? sums[s] : sums[s] + bias[at]);
                   }
                 }
                 o += static_cast<std::int64_t>(together) - 1;
                 continue;
               }
               read(o, row);
               const auto packed = numerics.mlx() ? weight.grouped_row(o) : std::nullopt;
               for (std::int64_t t = 0; t < x.tokens(); ++t) {
                 const double* group = x.row(t).data() + o / (weight.rows() / groups) * in;
                 double sum =
                     packed ? packed_dot(*packed, std::span(group, static_cast<std::size_t>(in)), numerics)
                            : dot(row.data(), group, in);
                 if (!roundings.data.empty())
                   sum += minima_times(weight.stored_row(o), *weight.stored_dtype(),
                                       roundings.data.data() + (group - x.data.data()) / 32);
                 y.row(t)[static_cast<std::size_t>(o)] =
                     round(bias.empty() ? sum : sum + bias[static_cast<std::size_t>(o)]);
               }
             }
           });
}

Outputs run(const Embed& op, const StageOperands& operands, const StageContext& context) {
  const Tensor& ids = *operands.inputs[0];
  const Weight& table = *operands.weights[0];
  const Numerics& numerics = context.numerics;
  const double scale = held_as(op.scale_precision, op.scale, numerics);
  Tensor y = tensor_like(ids, {table.row_length()});
  for (std::int64_t t = 0; t < ids.tokens(); ++t) {
    const auto row = y.row(t);
    table.read_row(static_cast<std::int64_t>(ids.data[static_cast<std::size_t>(t)]), row);
    const auto packed = numerics.mlx()
                            ? table.grouped_row(static_cast<std::int64_t>(ids.data[static_cast<std::size_t>(t)]))
                            : std::nullopt;
    for (std::size_t i = 0; packed && !packed->offsets.empty() && i < row.size(); ++i) {
      const std::size_t group = i / packed->group;
      row[i] = numerics.activation(numerics.activation(packed->scales[group]) * packed->codes[i]) +
               numerics.activation(packed->offsets[group]);
    }
    for (double& value : row) {
      value = numerics.activation(numerics.parameter(value));
      if (scale != 1) value = numerics.activation(value * scale);
    }
  }
  return {std::move(y)};
}

Outputs run(const Linear& op, const StageOperands& operands, const StageContext& context) {
  const Tensor& x = *operands.inputs[0];
  Tensor y = tensor_like(x, op.out);
  multiply(x, *operands.weights[0], op.bias ? operands.weights[1] : nullptr, op.order, context, y,
           op.result);
  return {std::move(y)};
}

Outputs run(const GroupedLinear& op, const StageOperands& operands, const StageContext& context) {
  const Tensor& x = *operands.inputs[0];
  Tensor y = tensor_like(x, op.out);
  multiply(x, *operands.weights[0], nullptr, WeightOrder::kOutIn, context, y,
           WeightPrecision::kActivation);
  return {std::move(y)};
}

Outputs run(const Logits& op, const StageOperands& operands, const StageContext& context) {
  const Tensor& x = *operands.inputs[0];
  const Numerics& numerics = context.numerics;
  Tensor y = tensor_like(x, {operands.weights[0]->rows()});
  multiply(x, *operands.weights[0], nullptr, WeightOrder::kOutIn, context, y,
           WeightPrecision::kActivation);
  for (double& value : y.data) {
    if (op.scale != 1) value = numerics.activation(value * op.scale);
    if (op.soft_cap) {  // Gemma2ForCausalLM: divide, tanh and multiply, each in the activation
                        // dtype
      value = numerics.activation(value / *op.soft_cap);
      value = numerics.activation(std::tanh(value));
      value = numerics.activation(value * *op.soft_cap);
    }
  }
  return {std::move(y)};
}

}  // namespace plumb::reference
