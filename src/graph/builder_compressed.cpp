// Recording the stages of compressed attention and of hyper-connections. Reference: transformers,
// models/deepseek_v4/modeling_deepseek_v4.py.
#include "graph/builder.h"

namespace plumb {
namespace {

constexpr std::int64_t kMaxRatio = 1 << 20;  // tokens of a block, blocks chosen, tokens of a window
constexpr std::int64_t kMaxStreams = 64;
constexpr std::int64_t kMaxIterations = 1000;

std::string outside(std::string_view what, std::int64_t value, std::int64_t most) {
  return std::string(what) + " is " + std::to_string(value) + ", outside 1 to " +
         std::to_string(most);
}

bool fits(std::int64_t value, std::int64_t most) {
  return value >= 1 && value <= most;
}

bool is_list(const Shape& shape, std::int64_t width) {
  return shape == Shape{kAnyLength, width};
}

}  // namespace

Value Builder::attend_shared(std::string_view stage, Value q, Value kv,
                             std::optional<Value> entries, std::optional<Value> chosen,
                             const AttendShared& attend, std::optional<std::string_view> sinks) {
  const Shape qs = shape(q);
  const Shape ks = shape(kv);
  if (qs.size() != 2 || ks.size() != 1 || qs[1] != ks[0] || qs[0] < 1) {
    fail(stage, "queries " + to_string(qs) + " and keys " + to_string(ks) + " differ in width");
    return q;
  }
  if (!fits(attend.window, kMaxRatio)) fail(stage, outside("the window", attend.window, kMaxRatio));
  if (attend.sinks != sinks.has_value() || attend.blocks.has_value() != entries.has_value() ||
      attend.chosen != chosen.has_value() || (attend.chosen && !attend.blocks)) {
    fail(stage, "sinks, blocks or a choice are on without an operand, or off with one");
  }
  if (entries && !is_list(shape(*entries), ks[0]))
    fail(stage, "entries " + to_string(shape(*entries)) + " are not as wide as the keys");
  if (attend.blocks && !fits(attend.blocks->ratio, kMaxRatio))
    fail(stage, outside("the ratio of blocks", attend.blocks->ratio, kMaxRatio));
  std::vector<Value> inputs = {q, kv, kPositions};
  if (entries) inputs.push_back(*entries);
  if (chosen) inputs.push_back(*chosen);
  std::vector<int> params;
  if (sinks) params.push_back(param(weight_name(*sinks), {qs[0]}));
  const int state = own_state(WindowState{.width = ks[0], .window = attend.window});
  Stage& s = record(stage, attend, std::move(inputs));
  s.params = std::move(params);
  s.states = {state};
  yield(s, ".scores", {qs[0], kAnyLength});
  yield(s, ".probs", {qs[0], kAnyLength});
  return yield(s, ".context", qs);
}

CompressedBlocks Builder::compress(std::string_view stage, Value kv, Value scores,
                                   const Compress& compress, std::optional<std::string_view> bias) {
  const Shape in = shape(kv);
  if (in.size() != 1 || in != shape(scores) || (compress.overlap && in[0] % 2 != 0)) {
    fail(stage, "values " + to_string(in) + " and scores " + to_string(shape(scores)) +
                    " differ, or have no two halves");
    return {kv, scores};
  }
  if (!fits(compress.ratio, kMaxRatio))
    fail(stage, outside("the ratio of blocks", compress.ratio, kMaxRatio));
  if (compress.position_bias != bias.has_value())
    fail(stage, "a position bias is on without a parameter, or off with one");
  std::vector<int> params;
  if (bias) params.push_back(param(weight_name(*bias), {compress.ratio, in[0]}));
  const int state = own_state(
      RemainderState{.width = in[0], .tokens = compress.ratio * (compress.overlap ? 2 : 1)});
  Stage& s = record(stage, compress, {kv, scores, kPositions});
  s.params = std::move(params);
  s.states = {state};
  const Value pooled = yield(s, "", {kAnyLength, compress.overlap ? in[0] / 2 : in[0]});
  s.outputs.back().per_token = false;
  const Value positions = yield(s, ".positions", {kAnyLength});
  s.outputs.back().per_token = false;
  return {pooled, positions};
}

Value Builder::collect(std::string_view stage, Value rows, std::int64_t ratio) {
  const Shape in = shape(rows);
  if (in.size() != 2 || in[0] != kAnyLength || !fits(ratio, kMaxRatio)) {
    fail(stage,
         "cannot collect " + to_string(in) + " for every " + std::to_string(ratio) + " tokens");
    return rows;
  }
  const int state = own_state(ListState{.width = in[1], .ratio = ratio});
  Stage& s = record(stage, Collect{}, {rows});
  s.states = {state};
  return yield(s, "", in);
}

Value Builder::index(std::string_view stage, Value q, Value weights, Value entries,
                     const Index& index) {
  const Shape qs = shape(q);
  if (qs.size() != 2 || shape(weights) != Shape{qs[0]} || !is_list(shape(entries), qs[1])) {
    fail(stage, "queries " + to_string(qs) + ", weights " + to_string(shape(weights)) +
                    " and entries " + to_string(shape(entries)) + " do not fit");
  }
  if (!fits(index.chosen, kMaxRatio))
    fail(stage, outside("the number of blocks chosen", index.chosen, kMaxRatio));
  if (!fits(index.blocks.ratio, kMaxRatio))
    fail(stage, outside("the ratio of blocks", index.blocks.ratio, kMaxRatio));
  Stage& s = record(stage, index, {q, weights, entries, kPositions});
  yield(s, ".scores", {kAnyLength});
  return yield(s, "", {index.chosen});
}

Value Builder::repeat(std::string_view stage, Value x, const Repeat& repeat) {
  if (!fits(repeat.copies, kMaxStreams))
    fail(stage, outside("the number of streams", repeat.copies, kMaxStreams));
  return yield(record(stage, repeat, {x}), "", {repeat.copies, count(shape(x))});
}

HyperValues Builder::hyper_connection(std::string_view stage, Value streams,
                                      std::string_view prefix, const HyperConnection& connection) {
  const Shape in = shape(streams);
  const std::int64_t n = connection.streams;
  if (!fits(n, kMaxStreams) || in.size() != 2 || in[0] != n)
    fail(stage, "streams " + to_string(in) + " are not " + std::to_string(n));
  if (connection.mixes && !fits(connection.iterations, kMaxIterations))
    fail(stage, outside("the number of iterations", connection.iterations, kMaxIterations));
  const std::int64_t outputs = connection.mixes ? (2 + n) * n : n;
  const std::string name = weight_name(prefix);
  std::vector<int> params = {param(name + "fn", {outputs, count(in)}),
                             param(name + "base", {outputs}),
                             param(name + "scale", {connection.mixes ? 3 : 1})};
  Stage& s = record(stage, connection, {streams});
  s.params = std::move(params);
  const Value pre = yield(s, ".pre", {n});
  if (!connection.mixes) return {pre, pre, pre};
  const Value post = yield(s, ".post", {n});
  return {pre, post, yield(s, ".comb", {n, n})};
}

Value Builder::collapse(std::string_view stage, Value streams, Value pre) {
  const Shape in = shape(streams);
  if (in.size() != 2 || shape(pre) != Shape{in[0]}) {
    fail(stage, "weights " + to_string(shape(pre)) + " do not fit streams " + to_string(in));
    return streams;
  }
  return yield(record(stage, Collapse{}, {streams, pre}), "", {in[1]});
}

Value Builder::mix(std::string_view stage, Value streams, Value branch, const HyperValues& weights,
                   const Mix& mix) {
  const Shape in = shape(streams);
  if (in.size() != 2 || shape(branch) != Shape{in[1]} || shape(weights.post) != Shape{in[0]} ||
      shape(weights.comb) != Shape{in[0], in[0]}) {
    fail(stage, "branch " + to_string(shape(branch)) + " and weights " +
                    to_string(shape(weights.comb)) + " do not fit streams " + to_string(in));
  }
  return yield(record(stage, mix, {streams, branch, weights.post, weights.comb}), "", in);
}

Value Builder::grouped_linear(std::string_view stage, Value x, std::string_view weight,
                              const GroupedLinear& linear) {
  const std::int64_t in = count(shape(x));
  const std::int64_t out = count(linear.out);
  if (linear.groups < 1 || in % linear.groups != 0 || out % linear.groups != 0) {
    fail(stage, std::to_string(linear.groups) + " groups do not divide " + to_string(shape(x)) +
                    " and " + to_string(linear.out));
    return x;
  }
  const int matrix = param(weight_name(weight) + ".weight", {out, in / linear.groups});
  Stage& s = record(stage, linear, {x});
  s.params = {matrix};
  return yield(s, "", linear.out);
}

Value Builder::narrow(std::string_view stage, Value x, const Narrow& narrow) {
  const Shape in = shape(x);
  if (in.empty() || narrow.channels < 1 || narrow.channels > in.back() ||
      !fits(narrow.block, kMaxRatio)) {
    fail(stage, "cannot narrow " + std::to_string(narrow.channels) + " channels of " +
                    to_string(in) + " in blocks of " + std::to_string(narrow.block));
  }
  return yield(record(stage, narrow, {x}), "", in);
}

Value Builder::hadamard(std::string_view stage, Value x) {
  const Shape in = shape(x);
  if (in.empty() || in.back() < 1 || (in.back() & (in.back() - 1)) != 0)
    fail(stage, "a Hadamard matrix needs a power of two, not " + to_string(in));
  return yield(record(stage, Hadamard{}, {x}), "", in);
}

}  // namespace plumb
