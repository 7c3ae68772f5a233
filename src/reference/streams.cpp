// Hyper-connections: several residual streams, collapsed into a branch's input and mixed with its
// output. Reference: transformers, models/deepseek_v4/modeling_deepseek_v4.py,
// DeepseekV4HyperConnection: the weights in float32 from parameters in float32, whatever the
// activation dtype.
#include <algorithm>
#include <cmath>

#include "reference/kernels.h"

namespace plumb::reference {
namespace {

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

// A square matrix, rows first.
class Square {
 public:
  Square(std::span<double> values, std::size_t n) : values_(values), n_(n) {}

  void softmax_rows(double eps, const Numerics& numerics) {
    for (std::size_t i = 0; i < n_; ++i) {
      const auto row = values_.subspan(i * n_, n_);
      const double largest = *std::max_element(row.begin(), row.end());
      double total = 0;
      for (double& value : row)
        total += value = std::exp(value - largest);
      for (double& value : row)
        value = numerics.single(numerics.single(value / total) + eps);
    }
  }

  void divide(bool columns, double eps, const Numerics& numerics) {
    const std::size_t along = columns ? n_ : 1;
    const std::size_t across = columns ? 1 : n_;
    for (std::size_t i = 0; i < n_; ++i) {
      double total = 0;
      for (std::size_t j = 0; j < n_; ++j)
        total += values_[i * across + j * along];
      total = numerics.single(numerics.single(total) + eps);
      for (std::size_t j = 0; j < n_; ++j) {
        double& value = values_[i * across + j * along];
        value = numerics.single(value / total);
      }
    }
  }

 private:
  std::span<double> values_;
  std::size_t n_;
};

// The number of divisions after the softmax is 2 * iterations - 1: columns, then rows and columns; of 0 iterations none.
void sinkhorn(const HyperConnection& op, Square comb, const Numerics& numerics) {
  if (op.iterations < 1) return;
  const bool columns = op.start == SinkhornStart::kColumns;
  comb.divide(columns, op.eps, numerics);
  for (std::int64_t i = 1; i < op.iterations; ++i) {
    comb.divide(!columns, op.eps, numerics);
    comb.divide(columns, op.eps, numerics);
  }
}

// fn . norm(x), in float32.
std::vector<double> project(const HyperConnection& op, std::span<const double> x,
                            const std::vector<double>& fn, const Numerics& numerics) {
  double squares = 0;
  for (const double value : x)
    squares += value * value;
  const double factor =
      numerics.single(1 / std::sqrt(squares / static_cast<double>(x.size()) + op.norm_eps));
  std::vector<double> normed(x.size());
  std::ranges::transform(x, normed.begin(),
                         [&](double value) { return numerics.single(value * factor); });
  std::vector<double> m(fn.size() / x.size());
  for (std::size_t i = 0; i < m.size(); ++i) {
    m[i] = numerics.single(
        dot(fn.data() + i * x.size(), normed.data(), static_cast<std::int64_t>(x.size())));
  }
  return m;
}

}  // namespace

Outputs run(const Repeat& op, const StageOperands& operands, const StageContext&) {
  const Tensor& x = *operands.inputs[0];
  Tensor y = tensor_like(x, {op.copies, x.width()});
  for (std::int64_t t = 0; t < x.tokens(); ++t) {
    for (std::int64_t i = 0; i < op.copies; ++i)
      std::ranges::copy(x.row(t), y.row(t).begin() + i * x.width());
  }
  return {std::move(y)};
}

Outputs run(const HyperConnection& op, const StageOperands& operands, const StageContext& context) {
  const Tensor& x = *operands.inputs[0];
  const Numerics& numerics = context.numerics;
  const Numerics as_stored(Precision::kFp32);
  const auto fn = read_vector(*operands.weights[0], as_stored);
  const auto base = read_vector(*operands.weights[1], as_stored);
  const auto scale = read_vector(*operands.weights[2], as_stored);
  const auto n = static_cast<std::size_t>(op.streams);
  Tensor pre = tensor_like(x, {op.streams});
  Tensor post = tensor_like(x, {op.streams});
  Tensor comb = tensor_like(x, {op.streams, op.streams});
  for (std::int64_t t = 0; t < x.tokens(); ++t) {
    std::vector<double> m = project(op, x.row(t), fn, numerics);
    for (std::size_t i = 0; i < m.size(); ++i) {
      const double factor = scale[std::min(i / n, scale.size() - 1)];
      m[i] = numerics.single(numerics.single(m[i] * factor) + base[i]);
    }
    for (std::size_t i = 0; i < n; ++i)
      pre.row(t)[i] = numerics.single(numerics.single(sigmoid(m[i])) + op.eps);
    if (!op.mixes) continue;
    for (std::size_t i = 0; i < n; ++i)
      post.row(t)[i] = numerics.single(op.post_scale * numerics.single(sigmoid(m[n + i])));
    std::copy(m.begin() + static_cast<std::ptrdiff_t>(2 * n), m.end(), comb.row(t).begin());
    Square square(comb.row(t), n);
    square.softmax_rows(op.eps, numerics);
    sinkhorn(op, square, numerics);
  }
  if (!op.mixes) return {std::move(pre)};
  return {std::move(pre), std::move(post), std::move(comb)};
}

Outputs run(const Collapse&, const StageOperands& operands, const StageContext& context) {
  const Tensor& streams = *operands.inputs[0];
  const Tensor& pre = *operands.inputs[1];
  const Numerics& numerics = context.numerics;
  Tensor y = tensor_like(streams, {streams.shape[2]});
  const auto width = static_cast<std::size_t>(streams.shape[2]);
  for (std::int64_t t = 0; t < streams.tokens(); ++t) {
    const auto weights = pre.row(t);
    const auto from = streams.row(t);
    const auto sums = y.row(t);
    for (std::size_t j = 0; j < weights.size(); ++j) {
      for (std::size_t d = 0; d < width; ++d)
        sums[d] += numerics.single(weights[j] * from[j * width + d]);
    }
    for (double& value : sums)
      value = numerics.activation(numerics.single(value));
  }
  return {std::move(y)};
}

Outputs run(const Mix& op, const StageOperands& operands, const StageContext& context) {
  const Tensor& streams = *operands.inputs[0];
  const Tensor& branch = *operands.inputs[1];
  const Tensor& post = *operands.inputs[2];
  const Tensor& comb = *operands.inputs[3];
  const Numerics& numerics = context.numerics;
  const auto n = static_cast<std::size_t>(streams.shape[1]);
  const auto width = static_cast<std::size_t>(streams.shape[2]);
  const bool first = op.incoming == StreamAxis::kFirst;
  Tensor y(streams.shape);
  for (std::int64_t t = 0; t < streams.tokens(); ++t) {
    const auto from = streams.row(t);
    const auto factors = comb.row(t);
    const auto added = branch.row(t);
    for (std::size_t k = 0; k < n; ++k) {
      const double weight = numerics.activation(post.row(t)[k]);
      const auto sums = y.row(t).subspan(k * width, width);
      for (std::size_t j = 0; j < n; ++j) {
        const double factor = numerics.activation(factors[first ? j * n + k : k * n + j]);
        for (std::size_t d = 0; d < width; ++d)
          sums[d] += factor * from[j * width + d];
      }
      for (std::size_t d = 0; d < width; ++d)
        sums[d] = numerics.activation(numerics.activation(weight * added[d]) + numerics.activation(sums[d]));
    }
  }
  return {std::move(y)};
}

}  // namespace plumb::reference
