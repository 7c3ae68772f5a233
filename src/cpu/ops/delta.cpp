// Gated delta-nets: a convolution with a window of earlier tokens, and the gated delta rule, https://arxiv.org/abs/2412.06464,
// token by token, so that no split of the tokens changes a result.
#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "core/float_bits.h"
#include "cpu/ops/ops.h"

namespace plumb::cpu {

Outputs run(const Convolution& op, const Operands& operands, const Context& context) {
  const Array& x = *operands.inputs[0];
  const std::int64_t channels = x.width();
  const std::int64_t before = op.taps - 1;
  // [taps][channels], oldest first, so that channels lie side by side.
  const std::vector<float>& stored = operands.weights->vectors[0];
  PLUMB_CHECK(static_cast<std::int64_t>(stored.size()) == channels * op.taps);
  std::vector<float> weight(stored.size());
  for (std::int64_t c = 0; c < channels; ++c) {
    for (std::int64_t i = 0; i < op.taps; ++i) {
      const std::int64_t tap = op.order == TapOrder::kNewestLast ? i : before - i;
      weight[static_cast<std::size_t>(i * channels + c)] = stored[static_cast<std::size_t>(c * op.taps + tap)];
    }
  }
  const float* bias = op.bias ? operands.weights->vectors[1].data() : nullptr;
  Array y = array_like(x, {channels}, context);
  for (const Segment& segment : context.segments) {
    auto& window = operands.state<ConvolutionRows>(segment).rows;
    // The window's rows, then the segment's.
    std::vector<float> rows(window);
    rows.insert(rows.end(), x.row(segment.first), x.row(segment.first) + segment.rows * channels);
    if (op.activation_place == ActivationPlace::kBefore) {
      for (std::size_t i = window.size(); i < rows.size(); ++i)
        rows[i] = activation_of(op.activation, 1, rows[i]);
    }
    for_rows(context, segment.rows, channels * (op.taps + 16), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        float* out = y.row(segment.first + t);
        for (std::int64_t c = 0; c < channels; ++c)
          out[c] = bias == nullptr ? 0.0F : bias[c];
        for (std::int64_t i = 0; i < op.taps; ++i) {
          const float* from = rows.data() + (t + i) * channels;
          const float* w = weight.data() + i * channels;
          for (std::int64_t c = 0; c < channels; ++c)
            out[c] += w[c] * from[c];
        }
        if (op.activation_place == ActivationPlace::kAfter) {
          for (std::int64_t c = 0; c < channels; ++c)
            out[c] = activation_of(op.activation, 1, out[c]);
        }
      }
    });
    if (op.window == WindowHolds::kNothing) continue;
    if (op.window == WindowHolds::kOutputs)
      std::copy_n(y.row(segment.first), segment.rows * channels, rows.begin() + before * channels);
    std::copy(rows.end() - before * channels, rows.end(), window.begin());
  }
  return one(std::move(y));
}

namespace {

struct Step {
  const float* q;
  const float* k;
  const float* v;
  float keep;
  float beta;
  std::int64_t key_dim;
  std::int64_t value_dim;
};

float held_as(ScalePrecision precision, float value) {
  return precision == ScalePrecision::kBfloat16 ? round_to_bfloat16(value) : value;
}

// The rule in its other forms, which no published model has.
void plain_step(const DeltaRule& op, const Step& s, float* state, float* out) {
  const auto read = [&](const float* x, std::int64_t j) {
    float sum = 0;
    for (std::int64_t i = 0; i < s.key_dim; ++i)
      sum += state[i * s.value_dim + j] * x[i];
    return sum;
  };
  for (std::int64_t j = 0; j < s.value_dim; ++j) {
    const auto decay = [&] {
      for (std::int64_t i = 0; i < s.key_dim; ++i) {
        float& value = state[i * s.value_dim + j];
        value = held_as(op.state_precision, value * s.keep);
      }
    };
    if (op.decay == DecayPlace::kBeforeWrite) decay();
    const float held = read(s.k, j);
    if (op.read == ReadPlace::kBeforeWrite) out[j] = read(s.q, j);
    const float change = (s.v[j] - held) * s.beta;
    for (std::int64_t i = 0; i < s.key_dim; ++i) {
      const float key = op.strength == WriteStrength::kOnValueAndKey ? s.beta * s.k[i] : s.k[i];
      float& value = state[i * s.value_dim + j];
      value = held_as(op.state_precision, value + key * change);
    }
    if (op.decay == DecayPlace::kAfterWrite) decay();
    if (op.read == ReadPlace::kAfterWrite) out[j] = read(s.q, j);
  }
}

bool is_usual(const DeltaRule& op) {
  return op.decay == DecayPlace::kBeforeWrite && op.read == ReadPlace::kAfterWrite &&
         op.strength == WriteStrength::kOnValue && op.state_precision != ScalePrecision::kBfloat16;
}

}  // namespace

Outputs run(const DeltaRule& op, const Operands& operands, const Context& context) {
  const Array& q = *operands.inputs[0];
  const Array& k = *operands.inputs[1];
  const Array& v = *operands.inputs[2];
  Array out = array_like(v, {v.shape[1], v.shape[2]}, context);
  const std::int64_t key_heads = q.shape[1];
  const std::int64_t heads = v.shape[1];
  const std::int64_t key_dim = q.shape[2];
  const std::int64_t value_dim = v.shape[2];
  const auto segments = static_cast<std::int64_t>(context.segments.size());
  const std::int64_t tokens = q.rows() / std::max<std::int64_t>(segments, 1) + 1;
  for_rows(context, heads * segments, key_dim * value_dim * tokens, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      const Segment& segment = context.segments[static_cast<std::size_t>(task / heads)];
      const std::int64_t h = task % heads;
      const std::int64_t key_head =
          op.groups == HeadGroups::kRepeat ? h / (heads / key_heads) : h % key_heads;
      float* state = operands.state<RecurrentMatrices>(segment).matrices.data() +
                     h * key_dim * value_dim;
      for (std::int64_t t = segment.first; t < segment.first + segment.rows; ++t) {
        const Step step = {.q = q.row(t) + key_head * key_dim,
                           .k = k.row(t) + key_head * key_dim,
                           .v = v.row(t) + h * value_dim,
                           .keep = std::exp(operands.inputs[3]->row(t)[h]),
                           .beta = operands.inputs[4]->row(t)[h],
                           .key_dim = key_dim,
                           .value_dim = value_dim};
        float* to = out.row(t) + h * value_dim;
        if (is_usual(op)) {
          context.kernels->delta_step(step.q, step.k, step.v, step.keep, step.beta, key_dim,
                                      value_dim, state, to);
        } else {
          plain_step(op, step, state, to);
        }
      }
    }
  });
  Outputs outputs(2);
  if (wanted(operands, 0, context)) {  // after the last token
    const auto& matrices = operands.state<RecurrentMatrices>(context.segments[0]).matrices;
    outputs[0] = Array({heads, key_dim, value_dim}, *context.buffers);
    std::copy(matrices.begin(), matrices.end(), outputs[0].data());
  }
  outputs[1] = std::move(out);
  return outputs;
}

}  // namespace plumb::cpu
