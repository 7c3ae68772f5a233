// Recording the stages of gated delta-nets.
#include "graph/builder.h"

namespace plumb {
namespace {

// A state is held whole for every sequence: 512 MiB at this many elements, published models have
// 2^20.
constexpr std::int64_t kMaxStateElements = std::int64_t{1} << 26;

}  // namespace

Value Builder::activate(std::string_view stage, Value x, const Activate& activate) {
  const Shape in = shape(x);
  return yield(record(stage, activate, {x}), "", in);
}

Value Builder::slice(std::string_view stage, Value x, const Slice& slice) {
  const std::int64_t in = count(shape(x));
  const std::int64_t out = count(slice.out);
  if (slice.groups < 1 || in % slice.groups != 0 || out % slice.groups != 0 || slice.first < 0 ||
      slice.first > in / slice.groups || out / slice.groups > in / slice.groups - slice.first) {
    fail(stage, "cannot take " + to_string(slice.out) + " from channel " +
                    std::to_string(slice.first) + " on out of each of " +
                    std::to_string(slice.groups) + " groups of " + to_string(shape(x)));
  }
  return yield(record(stage, slice, {x}), "", slice.out);
}

Value Builder::concat(std::string_view stage, std::vector<Value> parts) {
  std::int64_t width = 0;
  for (const Value part : parts)
    width += count(shape(part));
  return yield(record(stage, Concat{}, std::move(parts)), "", {width});
}

Value Builder::convolution(std::string_view stage, Value x, std::string_view weight,
                           const Convolution& convolution) {
  const std::int64_t channels = count(shape(x));
  constexpr std::int64_t kMaxTaps = 1 << 16;
  if (convolution.taps < 1 || convolution.taps > kMaxTaps) {
    fail(stage, "a convolution of " + std::to_string(convolution.taps) + " taps: between 1 and " +
                    std::to_string(kMaxTaps) + " are possible");
    return x;
  }
  std::vector<int> params = {
      param(weight_name(weight) + ".weight", {channels, 1, convolution.taps})};
  if (convolution.bias) params.push_back(param(weight_name(weight) + ".bias", {channels}));
  const int state = own_state(ConvolutionState{.channels = channels, .taps = convolution.taps});
  Stage& s = record(stage, convolution, {x});
  s.params = std::move(params);
  s.states = {state};
  return yield(s, "", {channels});
}

Value Builder::l2_norm(std::string_view stage, Value x, const L2Norm& norm) {
  const Shape in = shape(x);
  if (in.empty()) fail(stage, "a norm needs an axis");
  return yield(record(stage, norm, {x}), "", in);
}

Value Builder::log_decay(std::string_view stage, Value x, std::string_view rate,
                         std::string_view offset, const LogDecay& decay) {
  const Shape in = shape(x);
  std::vector<int> params = {param(weight_name(rate), {count(in)}),
                             param(weight_name(offset), {count(in)})};
  Stage& s = record(stage, decay, {x});
  s.params = std::move(params);
  return yield(s, "", in);
}

Value Builder::delta_rule(std::string_view stage, const DeltaInputs& in, const DeltaRule& rule) {
  const Shape q = shape(in.q);
  const Shape k = shape(in.k);
  const Shape v = shape(in.v);
  if (q != k || q.size() != 2 || v.size() != 2 || q[0] < 1 || v[0] % q[0] != 0 ||
      shape(in.g) != Shape{v[0]} || shape(in.beta) != Shape{v[0]}) {
    fail(stage, "queries " + to_string(q) + ", keys " + to_string(k) + ", values " + to_string(v) +
                    ", decays " + to_string(shape(in.g)) + " and strengths " +
                    to_string(shape(in.beta)) +
                    " do not fit: key heads must divide value heads, and each of these has one "
                    "decay and one strength");
    return in.v;
  }
  const Shape state_shape = {v[0], q[1], v[1]};
  if (count(state_shape) > kMaxStateElements) {
    fail(stage, "a recurrent state of shape " + to_string(state_shape) +
                    " has more than the possible " + std::to_string(kMaxStateElements) +
                    " elements");
  }
  const int state = own_state(RecurrentState{.heads = v[0], .key_dim = q[1], .value_dim = v[1]});
  Stage& s = record(stage, rule, {in.q, in.k, in.v, in.g, in.beta});
  s.states = {state};
  yield(s, ".state", state_shape);
  s.outputs.back().per_token = false;
  return yield(s, ".context", v);
}

Value Builder::gated_norm(std::string_view stage, Value x, Value gate, std::string_view weight,
                          const GatedNorm& norm) {
  const Shape in = shape(x);
  if (in.empty() || count(shape(gate)) != count(in)) {
    fail(stage,
         "gate " + to_string(shape(gate)) + " and values " + to_string(in) + " differ in size");
  }
  const int index = param(weight_name(weight) + ".weight", {in.empty() ? 1 : in.back()});
  Stage& s = record(stage, norm, {x, gate});
  s.params = {index};
  return yield(s, "", in);
}

}  // namespace plumb
