// Recording: each call checks its operands' shapes, names its parameters with their exact shapes
// and appends one stage.
#include "graph/builder.h"

#include <algorithm>
#include <limits>

namespace plumb {
namespace {

// Sizes of operands come from a configuration whose fields are each at most 2^31 - 1, so that a
// product of two fits; anything above this is refused before it is multiplied again.
constexpr std::int64_t kMaxTokenElements = std::int64_t{1} << 40;

std::string numbered(std::string_view pattern, std::int64_t index) {
  std::string name(pattern);
  if (const auto place = name.find("{e}"); place != std::string::npos)
    name.replace(place, 3, std::to_string(index));
  return name;
}

}  // namespace

Builder::Builder(const Config& config) : config_(config) {
  record("tokens", Tokens{}, {});
  yield(graph_.stages.back(), "", {});
  record("positions", Positions{}, {});
  yield(graph_.stages.back(), "", {});
}

std::int64_t Builder::count(const Shape& shape) {
  const auto elements = element_count(shape);
  return elements && *elements <= kMaxTokenElements ? *elements : kMaxTokenElements + 1;
}

const Shape& Builder::shape(Value x) const {
  return graph_.output(x).shape;
}

void Builder::fail(std::string_view stage, const std::string& what) {
  if (!error_) {
    error_ = Error{ErrorCode::kInvalidArgument,
                   config_.where() + ": stage " + stage_prefix_ + std::string(stage) + ": " + what};
  }
}

void Builder::check_limit(std::string_view stage, double limit) {
  if (limit >= 0) return;
  fail(stage, "values are limited to " + std::to_string(limit) + ", the least is 0");
}

int Builder::param(const std::string& name, const Shape& shape) {
  if (error_) return 0;  // finish() will not return the graph, and the search below is linear
  const auto same = std::find_if(graph_.params.begin(), graph_.params.end(),
                                 [&](const Param& param) { return param.name == name; });
  if (same != graph_.params.end()) {
    if (same->shape != shape) {
      fail("", "parameter " + name + " is wanted as " + to_string(shape) + " and as " +
                   to_string(same->shape));
    }
    return static_cast<int>(same - graph_.params.begin());
  }
  if (std::ranges::any_of(shape, [](std::int64_t axis) { return axis < 1; }))
    fail("", "parameter " + name + " of shape " + to_string(shape) + " has an axis below 1");
  if (count(shape) > kMaxTokenElements)
    fail("", "parameter " + name + " of shape " + to_string(shape) + " is too large");
  graph_.params.push_back({name, shape, std::nullopt});
  return static_cast<int>(graph_.params.size()) - 1;
}

std::string Builder::weight_name(std::string_view name) const {
  return weight_prefix_ + std::string(name);
}

Stage& Builder::record(std::string_view stage, Operation operation, std::vector<Value> inputs) {
  graph_.stages.push_back({.name = stage_prefix_ + std::string(stage),
                           .layer = layer_,
                           .operation = std::move(operation),
                           .inputs = std::move(inputs),
                           .params = {},
                           .states = {},
                           .outputs = {}});
  return graph_.stages.back();
}

Value Builder::yield(Stage& stage, const std::string& suffix, Shape shape) {
  if (std::ranges::any_of(shape, [](std::int64_t axis) { return axis < 1 && axis != kAnyLength; }))
    fail("", "stage " + stage.name + " yields " + to_string(shape) + " for each token, with an axis below 1");
  if (std::none_of(shape.begin(), shape.end(),
                   [](std::int64_t axis) { return axis == kAnyLength; }) &&
      count(shape) > kMaxTokenElements) {
    fail("", "stage " + stage.name + " yields " + to_string(shape) +
                 " for each token, which is too large");
  }
  stage.outputs.push_back({stage.name + suffix, std::move(shape)});
  // What is made of blocks has a row for each block, as they have.
  if (!stage.inputs.empty())
    stage.outputs.back().per_token = graph_.output(stage.inputs[0]).per_token;
  return {static_cast<int>(graph_.stages.size()) - 1, static_cast<int>(stage.outputs.size()) - 1};
}

int Builder::own_state(decltype(State::kind) kind) {
  graph_.states.push_back({.layer = layer_, .kind = std::move(kind)});
  return static_cast<int>(graph_.states.size()) - 1;
}

Value Builder::embed(std::string_view stage, std::string_view weight, const Embed& embed) {
  const int table =
      param(weight_name(weight) + ".weight", {config_.vocab_size, config_.hidden_size});
  Stage& s = record(stage, embed, {kTokens});
  s.params = {table};
  return yield(s, "", {config_.hidden_size});
}

Value Builder::norm(std::string_view stage, Value x, std::optional<std::string_view> weight,
                    const Norm& norm) {
  const Shape in = shape(x);
  if (in.empty()) fail(stage, "a norm needs an axis");
  const std::int64_t width = norm.span == NormSpan::kToken || in.empty() ? count(in) : in.back();
  std::vector<int> params;
  if (weight) params.push_back(param(weight_name(*weight) + ".weight", {width}));
  Stage& s = record(stage, norm, {x});
  s.params = std::move(params);
  return yield(s, "", in);
}

Value Builder::linear(std::string_view stage, Value x, std::string_view weight,
                      const Linear& linear) {
  const std::int64_t in = count(shape(x));
  const std::int64_t out = count(linear.out);
  const Shape matrix = linear.order == WeightOrder::kOutIn ? Shape{out, in} : Shape{in, out};
  std::vector<int> params = {param(weight_name(weight) + ".weight", matrix)};
  if (linear.bias) params.push_back(param(weight_name(weight) + ".bias", {out}));
  Stage& s = record(stage, linear, {x});
  s.params = std::move(params);
  return yield(s, "", linear.out);
}

Value Builder::rope(std::string_view stage, Value x, const Rope& rope, Value positions) {
  const Shape in = shape(x);
  if (in.empty() || in.size() > 2)
    fail(stage, "rotation needs [heads, head_dim] or one head, not " + to_string(in));
  if (rope.dims < 2 || rope.dims % 2 != 0 || (!in.empty() && rope.dims > in.back())) {
    fail(stage, "cannot rotate " + std::to_string(rope.dims) + " channels of " + to_string(in) +
                    ": the count must be even and at most the head's size");
  }
  return yield(record(stage, rope, {x, positions}), "", in);
}

Value Builder::attend(std::string_view stage, Value q, Value k, Value v, const Attend& attend,
                      std::optional<std::string_view> sinks) {
  const Shape qs = shape(q);
  const Shape ks = shape(k);
  const Shape vs = shape(v);
  if (qs.size() != 2 || ks.size() != 2 || vs.size() != 2 || qs[1] != ks[1] || ks[0] != vs[0] ||
      ks[0] < 1 || qs[0] % ks[0] != 0) {
    fail(
        stage,
        "queries " + to_string(qs) + ", keys " + to_string(ks) + " and values " + to_string(vs) +
            " do not fit: key heads must divide query heads, and queries and keys be equally wide");
    return q;
  }
  if (attend.window && *attend.window < 1) {
    fail(stage, "a window of " + std::to_string(*attend.window) + " keys: at least 1 is needed");
  }
  if (attend.sinks != sinks.has_value())
    fail(stage, "sinks are on without a weight, or off with one");
  std::vector<int> params;
  if (sinks) params.push_back(param(weight_name(*sinks), {qs[0]}));
  const int state = own_state(KeyValueState{.heads = ks[0], .key_dim = ks[1], .value_dim = vs[1]});
  Stage& s = record(stage, attend, {q, k, v, kPositions});
  s.params = std::move(params);
  s.states = {state};
  yield(s, ".scores", {qs[0], kAnyLength});
  yield(s, ".probs", {qs[0], kAnyLength});
  return yield(s, ".context", {qs[0], vs[1]});
}

Value Builder::gated(std::string_view stage, Value gate, Value up, const Gated& gated) {
  const Shape in = shape(gate);
  const Shape out = shape(up);
  if (in != out && count(in) != 1)
    fail(stage, "gate " + to_string(in) + " and up " + to_string(out) + " differ in shape");
  check_limit(stage, gated.limit.value_or(0));
  return yield(record(stage, gated, {gate, up}), "", out);
}

Value Builder::add(std::string_view stage, Value x, Value branch, const Add& add) {
  const Shape in = shape(x);
  if (in != shape(branch))
    fail(stage, "cannot add " + to_string(shape(branch)) + " to " + to_string(in));
  return yield(record(stage, add, {x, branch}), "", in);
}

Value Builder::clamp(std::string_view stage, Value x, const Clamp& clamp) {
  const Shape in = shape(x);
  check_limit(stage, clamp.limit);
  return yield(record(stage, clamp, {x}), "", in);
}

RouterValues Builder::router(std::string_view stage, Value logits, const Router& router,
                             std::optional<std::string_view> bias,
                             std::optional<std::string_view> table) {
  const Shape in = shape(logits);
  if (in != Shape{router.experts} || router.chosen < 1 || router.chosen > router.experts) {
    fail(stage, "cannot choose " + std::to_string(router.chosen) + " of " +
                    std::to_string(router.experts) + " experts from scores " + to_string(in));
  }
  if (const auto& g = router.groups) {
    if (g->groups < 1 || router.experts % g->groups != 0 || g->chosen < 1 ||
        g->chosen > g->groups || g->largest < 1 || g->largest > router.experts / g->groups ||
        router.chosen > g->chosen * (router.experts / g->groups)) {
      fail(stage, "cannot choose " + std::to_string(router.chosen) + " of " +
                      std::to_string(router.experts) + " experts from " +
                      std::to_string(g->chosen) + " of " + std::to_string(g->groups) +
                      " groups, by the sum of " + std::to_string(g->largest) + " scores of each");
    }
  }
  const bool by_table = router.choice == RouterChoice::kTable;
  if ((router.selection_bias != SelectionBias::kNone) != bias.has_value() ||
      by_table != table.has_value())
    fail(stage, "a bias or a table of choices is on without a parameter, or off with one");
  std::vector<Value> inputs = {logits};
  std::vector<int> params;
  if (bias) params.push_back(param(weight_name(*bias), {router.experts}));
  if (table) {
    inputs.push_back(kTokens);
    params.push_back(param(weight_name(*table), {config_.vocab_size, router.chosen}));
    graph_.params[static_cast<std::size_t>(params.back())].ids_below = router.experts;
  }
  Stage& s = record(stage, router, std::move(inputs));
  s.params = std::move(params);
  const Value probs = yield(s, ".probs", {router.experts});
  const Value ids = yield(s, ".ids", {router.chosen});
  return {probs, ids, yield(s, ".weights", {router.chosen})};
}

Value Builder::experts(std::string_view stage, Value x, const RouterValues& routing,
                       const ExpertNames& names, const Experts& experts) {
  const Shape in = shape(x);
  const std::int64_t width = count(in);
  constexpr std::int64_t kMaxExperts = 1 << 16;
  if (experts.experts < 1 || experts.experts > kMaxExperts) {
    fail(stage, std::to_string(experts.experts) + " experts: between 1 and " +
                    std::to_string(kMaxExperts) + " are possible");
    return x;
  }
  constexpr std::size_t kMaxParams = 1 << 20;
  if (graph_.params.size() > kMaxParams) {
    fail(stage, "more than " + std::to_string(kMaxParams) + " parameters");
    return x;
  }
  check_limit(stage, experts.gated.limit.value_or(0));
  std::vector<int> params;
  for (std::int64_t e = 0; e < experts.experts; ++e) {
    const auto add = [&](std::string_view pattern, std::int64_t out, std::int64_t columns) {
      const std::string name = weight_name(numbered(pattern, e));
      graph_.params.push_back({name + ".weight", {out, columns}, std::nullopt});
      params.push_back(static_cast<int>(graph_.params.size()) - 1);
      if (!experts.bias) return;
      graph_.params.push_back({name + ".bias", {out}, std::nullopt});
      params.push_back(static_cast<int>(graph_.params.size()) - 1);
    };
    add(names.gate, experts.width, width);
    add(names.up, experts.width, width);
    add(names.down, width, experts.width);
  }
  Stage& s = record(stage, experts, {x, routing.ids, routing.weights});
  s.params = std::move(params);
  return yield(s, "", in);
}

Value Builder::logits(std::string_view stage, Value x, std::string_view weight,
                      const Logits& logits) {
  const int head = param(weight_name(weight) + ".weight", {config_.vocab_size, count(shape(x))});
  Stage& s = record(stage, logits, {x});
  s.params = {head};
  graph_.logits = yield(s, "", {config_.vocab_size});
  return graph_.logits;
}

Builder::Layer::~Layer() {
  builder_.stage_prefix_.clear();
  builder_.weight_prefix_.clear();
  builder_.layer_ = -1;
}

Builder::Layer Builder::layer(std::int64_t index) {
  layer_ = static_cast<int>(index);
  stage_prefix_ = "layers." + std::to_string(index) + ".";
  weight_prefix_ = "model.layers." + std::to_string(index) + ".";
  return Layer(*this);
}

Result<Graph> Builder::finish() {
  PLUMB_TRY_STATUS(config_.status());
  if (error_) return *error_;
  return std::move(graph_);
}

}  // namespace plumb
