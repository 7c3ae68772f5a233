// Norms, gates, sums and regrouped channels: what happens to each token's vector on its own.
#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "core/float_bits.h"
#include "cpu/ops/ops.h"

namespace plumb::cpu {
namespace {

// One group of channels that is normalised together; `weight` is null for a norm without one.
void normalise(const Context& context, const Norm& op, const float* x, const float* weight,
               std::int64_t n, float* y) {
  const auto eps = static_cast<float>(op.eps);
  const auto offset = static_cast<float>(op.weight_offset);
  if (op.centre == NormCentre::kNone && op.eps_place == EpsPlace::kInsideRoot)
    return context.kernels->rms_norm(x, weight, n, eps, offset, y);
  double mean = 0;
  for (std::int64_t i = 0; i < n && op.centre == NormCentre::kMean; ++i)
    mean += x[i];
  mean /= static_cast<double>(n);
  double squares = 0;
  for (std::int64_t i = 0; i < n; ++i)
    squares += (x[i] - mean) * (x[i] - mean);
  const double variance = squares / static_cast<double>(n);
  const double inverse = op.eps_place == EpsPlace::kInsideRoot ? 1 / std::sqrt(variance + op.eps)
                                                               : 1 / (std::sqrt(variance) + op.eps);
  for (std::int64_t i = 0; i < n; ++i) {
    const auto value = static_cast<float>((x[i] - mean) * inverse);
    y[i] = weight == nullptr ? value : value * (weight[i] + offset);
  }
}

}  // namespace

void gate_row(const Context& context, const Gated& op, const float* gate, const float* up,
              std::int64_t n, float* y) {
  const auto slope = static_cast<float>(op.sigmoid_slope);
  if (!op.limit && op.up_offset == 0) {
    if (op.activation == Activation::kSilu)
      return context.kernels->gated(GateForm::kSilu, slope, gate, up, n, y);
    if (op.activation == Activation::kGeluTanh)
      return context.kernels->gated(GateForm::kGeluTanh, slope, gate, up, n, y);
  }
  const auto limit = static_cast<float>(op.limit.value_or(INFINITY));
  for (std::int64_t i = 0; i < n; ++i) {
    const float g = std::min(gate[i], limit);
    const float u = std::clamp(up[i], -limit, limit) + static_cast<float>(op.up_offset);
    y[i] = activation_of(op.activation, slope, g) * u;
  }
}

Outputs run(const Norm& op, const Operands& operands, const Context& context) {
  const Array& x = *operands.inputs[0];
  Array y = array_like(x, Shape(x.shape.begin() + 1, x.shape.end()), context);
  const float* weight =
      operands.weights->vectors.empty() ? nullptr : operands.weights->vectors[0].data();
  const std::int64_t span = op.span == NormSpan::kToken ? x.width() : x.shape.back();
  for_rows(context, x.rows(), x.width() * 2, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin * x.width(); i < end * x.width(); i += span)
      normalise(context, op, x.data() + i, weight, span, y.data() + i);
  });
  return one(std::move(y));
}

Outputs run(const Gated& op, const Operands& operands, const Context& context) {
  const Array& gate = *operands.inputs[0];
  const Array& up = *operands.inputs[1];
  Array y = array_like(up, Shape(up.shape.begin() + 1, up.shape.end()), context);
  for_rows(context, up.rows(), up.width() * 16, [&](std::int64_t begin, std::int64_t end) {
    if (gate.width() == up.width()) {
      return gate_row(context, op, gate.row(begin), up.row(begin), (end - begin) * up.width(),
                      y.row(begin));
    }
    std::vector<float> same(static_cast<std::size_t>(up.width()));
    for (std::int64_t t = begin; t < end; ++t) {
      std::fill(same.begin(), same.end(), gate.row(t)[0]);
      gate_row(context, op, same.data(), up.row(t), up.width(), y.row(t));
    }
  });
  return one(std::move(y));
}

namespace {

// Each element of x through f(value, index in the row).
template <class F>
Outputs map(const Array& x, const Context& context, std::int64_t cost, F f) {
  Array y = array_like(x, Shape(x.shape.begin() + 1, x.shape.end()), context);
  for_rows(context, x.rows(), x.width() * cost, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      for (std::int64_t i = 0; i < x.width(); ++i)
        y.row(t)[i] = f(x.row(t)[i], i);
    }
  });
  return one(std::move(y));
}

}  // namespace

Outputs run(const Activate& op, const Operands& operands, const Context& context) {
  return map(*operands.inputs[0], context, 32,
             [&](float value, std::int64_t) { return activation_of(op.activation, 1, value); });
}

Outputs run(const Add& op, const Operands& operands, const Context& context) {
  const Array& x = *operands.inputs[0];
  const Array& branch = *operands.inputs[1];
  Array y = array_like(x, Shape(x.shape.begin() + 1, x.shape.end()), context);
  for_rows(context, x.rows(), x.width(), [&](std::int64_t begin, std::int64_t end) {
    context.kernels->add(x.row(begin), branch.row(begin), static_cast<float>(op.factor),
                         (end - begin) * x.width(), y.row(begin));
  });
  return one(std::move(y));
}

Outputs run(const Clamp& op, const Operands& operands, const Context& context) {
  const auto limit = static_cast<float>(op.limit);
  return map(*operands.inputs[0], context, 1,
             [&](float value, std::int64_t) { return std::clamp(value, -limit, limit); });
}

Outputs run(const L2Norm& op, const Operands& operands, const Context& context) {
  const Array& x = *operands.inputs[0];
  Array y = array_like(x, Shape(x.shape.begin() + 1, x.shape.end()), context);
  const std::int64_t span = x.shape.back();
  for_rows(context, x.rows(), x.width() * 2, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t first = begin * x.width(); first < end * x.width(); first += span) {
      const float* from = x.data() + first;
      const double sum = context.kernels->dot(from, from, span);
      double length = 0;
      switch (op.eps_place) {
        case L2Eps::kAddToSum:
          length = std::sqrt(sum + op.eps);
          break;
        case L2Eps::kAddToMean:
          length = std::sqrt(sum + static_cast<double>(span) * op.eps);
          break;
        case L2Eps::kLeastNorm:
          length = std::max(std::sqrt(sum), op.eps);
          break;
      }
      const auto inverse = static_cast<float>(1 / length);
      const auto scale = static_cast<float>(op.scale);
      for (std::int64_t i = 0; i < span; ++i)
        y.data()[first + i] = from[i] * inverse * scale;
    }
  });
  return one(std::move(y));
}

Outputs run(const LogDecay& op, const Operands& operands, const Context& context) {
  std::vector<float> rates = operands.weights->vectors[0];
  const std::vector<float>& offsets = operands.weights->vectors[1];
  for (float& rate : rates) {
    if (op.rate_precision == ScalePrecision::kBfloat16) rate = round_to_bfloat16(rate);
    if (op.rate == DecayRate::kMinusExp) rate = -std::exp(rate);
  }
  return map(*operands.inputs[0], context, 64, [&](float value, std::int64_t i) {
    const auto head = static_cast<std::size_t>(i) % rates.size();
    return rates[head] * softplus(value + offsets[head]);
  });
}

Outputs run(const GatedNorm& op, const Operands& operands, const Context& context) {
  const Array& x = *operands.inputs[0];
  const Array& z = *operands.inputs[1];
  Array y = array_like(x, Shape(x.shape.begin() + 1, x.shape.end()), context);
  const std::vector<float>& own = operands.weights->vectors[0];
  const std::int64_t span = op.norm.span == NormSpan::kToken ? x.width() : x.shape.back();
  std::vector<float> weight;  // one head's weight serves all heads
  for (std::int64_t i = 0; i < span; ++i)
    weight.push_back(own[static_cast<std::size_t>(i) % own.size()]);
  for_rows(context, x.rows(), x.width() * 32, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> from(static_cast<std::size_t>(x.width()));
    for (std::int64_t t = begin; t < end; ++t) {
      std::copy_n(x.row(t), x.width(), from.begin());
      const auto gate = [&](std::int64_t i) { return activation_of(op.activation, 1, z.row(t)[i]); };
      for (std::int64_t i = 0; i < x.width() && op.place == GatePlace::kBeforeNorm; ++i)
        from[static_cast<std::size_t>(i)] *= gate(i);
      for (std::int64_t first = 0; first < x.width(); first += span)
        normalise(context, op.norm, from.data() + first, weight.data(), span, y.row(t) + first);
      for (std::int64_t i = 0; i < x.width() && op.place == GatePlace::kAfterNorm; ++i)
        y.row(t)[i] *= gate(i);
    }
  });
  return one(std::move(y));
}

Outputs run(const Slice& op, const Operands& operands, const Context& context) {
  const Array& x = *operands.inputs[0];
  Array y = array_like(x, op.out, context);
  const std::int64_t group = x.width() / op.groups;
  const std::int64_t taken = y.width() / op.groups;
  PLUMB_CHECK(op.first >= 0 && op.first + taken <= group);
  for (std::int64_t t = 0; t < x.rows(); ++t) {
    for (std::int64_t g = 0; g < op.groups; ++g)
      std::copy_n(x.row(t) + g * group + op.first, taken, y.row(t) + g * taken);
  }
  return one(std::move(y));
}

Outputs run(const Concat&, const Operands& operands, const Context& context) {
  std::int64_t width = 0;
  for (const Array* x : operands.inputs)
    width += x->width();
  Array y = array_like(*operands.inputs[0], {width}, context);
  for (std::int64_t t = 0; t < y.rows(); ++t) {
    float* out = y.row(t);
    for (const Array* x : operands.inputs)
      out = std::copy_n(x->row(t), x->width(), out);
  }
  return one(std::move(y));
}

Outputs run(const JoinHeads&, const Operands& operands, const Context& context) {
  std::int64_t heads = 1;
  std::int64_t width = 0;
  for (const Array* x : operands.inputs) {
    heads = std::max(heads, x->shape[1]);
    width += x->shape[2];
  }
  Array y = array_like(*operands.inputs[0], {heads, width}, context);
  for (std::int64_t t = 0; t < y.rows(); ++t) {
    float* out = y.row(t);
    for (std::int64_t h = 0; h < heads; ++h) {
      for (const Array* x : operands.inputs) {
        const std::int64_t own = x->shape[1] == 1 ? 0 : h;
        out = std::copy_n(x->row(t) + own * x->shape[2], x->shape[2], out);
      }
    }
  }
  return one(std::move(y));
}

}  // namespace plumb::cpu
