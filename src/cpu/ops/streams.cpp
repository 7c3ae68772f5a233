// Hyper-connections, https://arxiv.org/abs/2512.24880, and the narrow formats and Hadamard rotations beside them, in float32.
#include <algorithm>
#include <cmath>

#include "cpu/ops/ops.h"
#include "graph/narrow.h"

namespace plumb::cpu {
namespace {

float sigmoid(float x) {
  return 1 / (1 + std::exp(-x));
}

void softmax_rows(float* square, std::int64_t n, float eps) {
  for (std::int64_t i = 0; i < n; ++i) {
    float* row = square + i * n;
    const float top = *std::max_element(row, row + n);
    float total = 0;
    for (std::int64_t j = 0; j < n; ++j)
      total += row[j] = std::exp(row[j] - top);
    for (std::int64_t j = 0; j < n; ++j)
      row[j] = row[j] / total + eps;
  }
}

void divide(float* square, std::int64_t n, bool columns, float eps) {
  const std::int64_t along = columns ? n : 1;
  const std::int64_t across = columns ? 1 : n;
  for (std::int64_t i = 0; i < n; ++i) {
    float total = 0;
    for (std::int64_t j = 0; j < n; ++j)
      total += square[i * across + j * along];
    total += eps;
    for (std::int64_t j = 0; j < n; ++j)
      square[i * across + j * along] /= total;
  }
}

// The number of divisions after the softmax is 2 * iterations - 1: columns, then rows and columns.
void sinkhorn(const HyperConnection& op, float* square) {
  const auto eps = static_cast<float>(op.eps);
  const bool columns = op.start == SinkhornStart::kColumns;
  softmax_rows(square, op.streams, eps);
  divide(square, op.streams, columns, eps);
  for (std::int64_t i = 1; i < op.iterations; ++i) {
    divide(square, op.streams, !columns, eps);
    divide(square, op.streams, columns, eps);
  }
}

}  // namespace

Outputs run(const Repeat& op, const Operands& operands, const Context& context) {
  const Array& x = *operands.inputs[0];
  Array y = array_like(x, {op.copies, x.width()}, context);
  for (std::int64_t t = 0; t < x.rows(); ++t) {
    for (std::int64_t i = 0; i < op.copies; ++i)
      std::copy_n(x.row(t), x.width(), y.row(t) + i * x.width());
  }
  return one(std::move(y));
}

Outputs run(const HyperConnection& op, const Operands& operands, const Context& context) {
  const Array& x = *operands.inputs[0];
  const std::vector<float>& fn = operands.weights->vectors[0];
  const std::vector<float>& base = operands.weights->vectors[1];
  const std::vector<float>& scale = operands.weights->vectors[2];
  const std::int64_t n = op.streams;
  const auto outputs_of = static_cast<std::int64_t>(base.size());
  Array pre = array_like(x, {n}, context);
  Array post = array_like(x, {n}, context);
  Array comb = array_like(x, {n, n}, context);
  for_rows(context, x.rows(), x.width() * outputs_of, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> normed(static_cast<std::size_t>(x.width()));
    std::vector<float> m(base.size());
    for (std::int64_t t = begin; t < end; ++t) {
      context.kernels->rms_norm(x.row(t), nullptr, x.width(), static_cast<float>(op.norm_eps), 0,
                                normed.data());
      for (std::int64_t i = 0; i < outputs_of; ++i) {
        const auto at = static_cast<std::size_t>(i);
        const float factor = scale[std::min(static_cast<std::size_t>(i / n), scale.size() - 1)];
        m[at] = context.kernels->dot(fn.data() + i * x.width(), normed.data(), x.width()) * factor +
                base[at];
      }
      for (std::int64_t i = 0; i < n; ++i)
        pre.row(t)[i] = sigmoid(m[static_cast<std::size_t>(i)]) + static_cast<float>(op.eps);
      if (!op.mixes) continue;
      for (std::int64_t i = 0; i < n; ++i)
        post.row(t)[i] = static_cast<float>(op.post_scale) * sigmoid(m[static_cast<std::size_t>(n + i)]);
      std::copy(m.begin() + 2 * n, m.end(), comb.row(t));
      sinkhorn(op, comb.row(t));
    }
  });
  Outputs outputs;
  outputs.push_back(std::move(pre));
  if (!op.mixes) return outputs;
  outputs.push_back(std::move(post));
  outputs.push_back(std::move(comb));
  return outputs;
}

Outputs run(const Collapse&, const Operands& operands, const Context& context) {
  const Array& streams = *operands.inputs[0];
  const Array& pre = *operands.inputs[1];
  const std::int64_t width = streams.shape[2];
  Array y = array_like(streams, {width}, context);
  for_rows(context, y.rows(), streams.width(), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      std::fill_n(y.row(t), width, 0.0F);
      for (std::int64_t j = 0; j < pre.width(); ++j) {
        const float factor = pre.row(t)[j];
        for (std::int64_t d = 0; d < width; ++d)
          y.row(t)[d] += factor * streams.row(t)[j * width + d];
      }
    }
  });
  return one(std::move(y));
}

Outputs run(const Mix& op, const Operands& operands, const Context& context) {
  const Array& streams = *operands.inputs[0];
  const Array& branch = *operands.inputs[1];
  const Array& post = *operands.inputs[2];
  const Array& comb = *operands.inputs[3];
  const std::int64_t n = streams.shape[1];
  const std::int64_t width = streams.shape[2];
  const bool first = op.incoming == StreamAxis::kFirst;
  Array y = array_like(streams, {n, width}, context);
  for_rows(context, y.rows(), streams.width() * n, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      for (std::int64_t k = 0; k < n; ++k) {
        float* out = y.row(t) + k * width;
        std::fill_n(out, width, 0.0F);
        for (std::int64_t j = 0; j < n; ++j) {
          const float factor = comb.row(t)[first ? j * n + k : k * n + j];
          for (std::int64_t d = 0; d < width; ++d)
            out[d] += factor * streams.row(t)[j * width + d];
        }
        for (std::int64_t d = 0; d < width; ++d)
          out[d] = post.row(t)[k] * branch.row(t)[d] + out[d];
      }
    }
  });
  return one(std::move(y));
}

Outputs run(const Narrow& op, const Operands& operands, const Context& context) {
  const Array& x = *operands.inputs[0];
  const NarrowFormat format = narrow_format(op.format);
  Array y = array_like(x, Shape(x.shape.begin() + 1, x.shape.end()), context);
  std::copy_n(x.data(), x.size(), y.data());
  const std::int64_t width = x.shape.back();
  for_rows(context, x.rows(), x.width() * 32, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t head = begin * x.width(); head < end * x.width(); head += width) {
      for (std::int64_t first = 0; first < op.channels; first += op.block) {
        float* block = y.data() + head + first;
        const std::int64_t n = std::min(op.block, op.channels - first);
        double top = op.floor;
        for (std::int64_t i = 0; i < n; ++i)
          top = std::max(top, std::abs(static_cast<double>(block[i])));
        const double scale = least_power_of_two(static_cast<float>(top / format.largest));
        for (std::int64_t i = 0; i < n; ++i)
          block[i] = static_cast<float>(round_to_narrow(format, block[i] / scale) * scale);
      }
    }
  });
  return one(std::move(y));
}

Outputs run(const Hadamard&, const Operands& operands, const Context& context) {
  const Array& x = *operands.inputs[0];
  Array y = array_like(x, Shape(x.shape.begin() + 1, x.shape.end()), context);
  std::copy_n(x.data(), x.size(), y.data());
  const std::int64_t n = x.shape.back();
  const auto scale = static_cast<float>(1 / std::sqrt(static_cast<double>(n)));
  for_rows(context, x.rows(), x.width() * 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t first = begin * x.width(); first < end * x.width(); first += n) {
      float* row = y.data() + first;
      for (std::int64_t half = 1; half < n; half *= 2) {
        for (std::int64_t i = 0; i < n; ++i) {
          if ((i & half) != 0) continue;
          const float a = row[i];
          const float b = row[i + half];
          row[i] = a + b;
          row[i + half] = a - b;
        }
      }
      for (std::int64_t i = 0; i < n; ++i)
        row[i] *= scale;
    }
  });
  return one(std::move(y));
}

}  // namespace plumb::cpu
