// Demand-driven evaluation with memory: a stage is run once per step, its states advanced through the steps before.
#include "parity/recompute.h"

#include <algorithm>

#include "core/check.h"
#include "parity/choices.h"
#include "parity/near_ties.h"
#include "parity/ties.h"
#include "reference/int16.h"

namespace plumb {
namespace {

bool fits(const Shape& captured, const Output& output, std::int64_t tokens) {
  const std::size_t axes = output.per_token ? 1 : 0;
  if (captured.size() != output.shape.size() + axes || (axes == 1 && captured[0] != tokens))
    return false;
  for (std::size_t i = 0; i < output.shape.size(); ++i) {
    if (output.shape[i] != kAnyLength && output.shape[i] != captured[i + axes]) return false;
  }
  return true;
}

// Of a router under a patch: its ids and weights go together, so what was captured of another number of them stands for neither.
bool chooses_another_number(const BoundGraph& network, const Patch& patch, Value value) {
  const auto changed = patch.stages.find(value.stage);
  if (changed == patch.stages.end() || value.output == 0) return false;
  const auto* router = std::get_if<Router>(&changed->second.operation);
  return router != nullptr && network.graph.output(value).shape != Shape{router->chosen};
}

Tensor rows_from(const Tensor& all, std::int64_t first, std::int64_t count) {
  Shape shape = all.shape;
  shape[0] = count;
  Tensor part(std::move(shape));
  std::copy_n(all.data.begin() + first * all.width(), part.data.size(), part.data.begin());
  return part;
}

}  // namespace

const Stage& Recompute::stage_in(std::size_t step, int index) const {
  const auto& stages = patch(step).stages;
  const auto changed = stages.find(index);
  return changed != stages.end() ? changed->second
                                 : network_.graph.stages[static_cast<std::size_t>(index)];
}

bool reads_in_a_circle(const BoundGraph& network, const Patch& patch) {
  // A graph's stages read only those before them: a circle has a stage that reads itself or one behind it.
  const auto reads_ahead = [](const auto& entry) {
    return std::ranges::any_of(entry.second.inputs, [&](const Value& input) { return input.stage >= entry.first; });
  };
  if (std::ranges::none_of(patch.stages, reads_ahead)) return false;
  enum class Seen : std::uint8_t { kNot, kOpen, kDone };
  std::vector<Seen> states(network.graph.stages.size(), Seen::kNot);
  for (const auto& [start, changed] : patch.stages) {
    std::vector<int> path = {start};
    while (!path.empty()) {
      const int at = path.back();
      Seen& state = states[static_cast<std::size_t>(at)];
      if (state != Seen::kNot) {  // all that it reads is done
        state = Seen::kDone;
        path.pop_back();
        continue;
      }
      state = Seen::kOpen;
      const auto other = patch.stages.find(at);
      for (const Value input : (other != patch.stages.end() ? other->second : network.graph.stages[static_cast<std::size_t>(at)]).inputs) {
        if (states[static_cast<std::size_t>(input.stage)] == Seen::kOpen) return true;
        if (states[static_cast<std::size_t>(input.stage)] == Seen::kNot) path.push_back(input.stage);
      }
    }
  }
  return false;
}

std::set<int> touched_stages(const BoundGraph& network, const Patch& patch) {
  std::set<int> touched;
  for (const auto& [index, stage] : patch.stages)
    touched.insert(index);
  for (const auto& [index, computation] : patch.computations)
    touched.insert(index);
  for (int i = 0; !patch.weights.empty() && i < static_cast<int>(network.graph.stages.size());
       ++i) {
    const auto& params = network.graph.stages[static_cast<std::size_t>(i)].params;
    if (std::any_of(params.begin(), params.end(),
                    [&](int param) { return patch.weights.contains(param); })) {
      touched.insert(i);
    }
  }
  return touched;
}

namespace {

// Rows of what tokens only add to; 0 of what they change.
std::int64_t rows_of(const StateValue& state) {
  if (const auto* cache = std::get_if<KeyValueCache>(&state)) return std::ssize(cache->positions);
  if (const auto* list = std::get_if<RowList>(&state)) return list->rows.tokens();
  return 0;
}

bool grows(const StateValue& state) {
  return std::holds_alternative<KeyValueCache>(state) || std::holds_alternative<RowList>(state);
}

StateValue first_rows(const StateValue& state, std::int64_t rows) {
  if (rows == rows_of(state)) return state;
  if (const auto* cache = std::get_if<KeyValueCache>(&state))
    return KeyValueCache{rows_from(cache->keys, 0, rows), rows_from(cache->values, 0, rows), {cache->positions.begin(), cache->positions.begin() + rows}};
  if (const auto* list = std::get_if<RowList>(&state)) return RowList{rows_from(list->rows, 0, rows)};
  return state;
}

}  // namespace

Recompute::Recompute(const BoundGraph& network, const Captured& captured, Numerics numerics,
                     ThreadPool& pool, const Patch& patch)
    : network_(network),
      captured_(captured),
      circular_(reads_in_a_circle(network, patch)),
      numerics_(numerics),
      pool_(pool),
      patch_(patch) {}

Recompute::Recompute(const Recompute& base, ThreadPool& pool, const Patch& patch,
                     std::set<int> touched)
    : network_(base.network_),
      captured_(base.captured_),
      circular_(reads_in_a_circle(base.network_, patch)),
      numerics_(base.numerics_),
      pool_(pool),
      patch_(patch),
      base_(&base),
      logits_(base.logits_),
      touched_(std::move(touched)) {}

std::shared_ptr<const CapturedValue> Recompute::captured(std::size_t step, Value value) {
  if (chooses_another_number(network_, patch(step), value)) return nullptr;
  const auto key = std::make_pair(Key{step, value.stage}, value.output);
  if (const auto* known = known_value(key.first, key.second)) return *known;
  const Output& output = network_.graph.output(value);
  auto held = captured_.value(step, output.name);
  if (held && !fits(held->values.shape, output, captured_.steps()[step].count)) held = nullptr;
  return held_[key] = std::move(held);
}

const Tensor& Recompute::operand(std::size_t step, Value value) {
  const auto held = captured(step, value);
  if (!held) return computed(step, value);
  if (network_.graph.output(value).per_token) return held->values;
  // How many rows such a value has depends on what came before: only one of the size that is computed can stand for it.
  const Tensor& own = computed(step, value);
  return own.shape == held->values.shape ? held->values : own;
}

const Tensor& Recompute::computed(std::size_t step, Value value) {
  if (circular_) {
    static const Tensor kNone({0});
    return kNone;
  }
  return outputs(step, value.stage)[static_cast<std::size_t>(value.output)];
}

std::vector<Tensor> Recompute::source(std::size_t step, int stage) const {
  const TraceStep& pass = captured_.steps()[step];
  Tensor tensor({pass.count});
  if (std::holds_alternative<Positions>(
          network_.graph.stages[static_cast<std::size_t>(stage)].operation)) {
    for (std::int64_t t = 0; t < pass.count; ++t)
      tensor.data[static_cast<std::size_t>(t)] = static_cast<double>(pass.first + t);
  } else {
    const auto ids = captured_.fed_ids(step);
    std::copy_n(ids.begin(), std::min(ids.size(), tensor.data.size()), tensor.data.begin());
  }
  return {std::move(tensor)};
}

const std::shared_ptr<const CapturedValue>* Recompute::known_value(Key key, int output) const {
  const auto found = held_.find({key, output});
  if (found != held_.end()) return &found->second;
  return base_ != nullptr ? base_->known_value(key, output) : nullptr;
}

const std::vector<Tensor>* Recompute::known_outputs(Key key) const {
  if (const auto found = computed_.find(key); found != computed_.end()) return &found->second;
  const auto other = differs_.find(key);
  const bool same = base_ != nullptr && other != differs_.end() && !other->second;
  return same ? base_->known_outputs(key) : nullptr;
}

bool Recompute::knows_states(Key key) const {
  if (states_after_.contains(key)) return true;
  const auto other = differs_.find(key);
  return base_ != nullptr && other != differs_.end() && !other->second && base_->knows_states(key);
}

std::optional<std::vector<StateValue>> Recompute::known_states(Key key) const {
  const auto found = states_after_.find(key);
  if (found == states_after_.end()) return knows_states(key) ? base_->known_states(key) : std::nullopt;
  std::vector<StateValue> states;
  for (std::size_t i = 0; i < found->second.rows.size(); ++i)
    states.push_back(first_rows((*found->second.values)[i], found->second.rows[i]));
  return states;
}

void Recompute::keep_states(Key key, std::vector<StateValue> states) {
  Remembered kept;
  for (const StateValue& state : states)
    kept.rows.push_back(rows_of(state));
  const Patch& now = patch(key.first);
  const auto before = key.first > 0 ? states_after_.find({key.first - 1, key.second}) : states_after_.end();
  const bool longer = before != states_after_.end() && std::ranges::all_of(states, grows) && !now.stages.contains(key.second) &&
                      !now.computations.contains(key.second) &&
                      std::ranges::equal(*before->second.values, states, std::less_equal<>(), rows_of, rows_of);
  if (longer) {
    kept.values = before->second.values;
    *kept.values = std::move(states);
  } else {
    kept.values = std::make_shared<std::vector<StateValue>>(std::move(states));
  }
  states_after_[key] = std::move(kept);
}

// Whether a stage's outputs in `step` depend on a touched stage. Of what remembers, the oldest step is asked first, here and in states_before():
// each asking the one before it would call as deep as a trace has steps.
bool Recompute::differs(std::size_t step, int index) {
  const Key key{step, index};
  if (const auto found = differs_.find(key); found != differs_.end()) return found->second;
  if (touched_.contains(index)) return true;
  const Stage& stage = stage_in(step, index);
  std::size_t first = step;
  while (!stage.states.empty() && first > 0 && !differs_.contains({first - 1, index}))
    --first;
  for (; first < step; ++first)
    (void)differs(first, index);
  bool any = !stage.states.empty() && step > 0 && differs(step - 1, index);
  // What was captured stands for its stage, but for rows whose number the patch may change.
  for (const Value input : stage.inputs) {
    const bool stands = network_.graph.output(input).per_token && captured(step, input) != nullptr;
    any = any || (!stands && differs(step, input.stage));
  }
  return differs_[key] = any;
}

std::vector<StateValue> Recompute::states_before(std::size_t step, int index) {
  const Stage& stage = network_.graph.stages[static_cast<std::size_t>(index)];
  std::vector<StateValue> states;
  if (!stage.states.empty() && step > 0) {
    std::size_t first = step;
    while (first > 0 && !knows_states({first - 1, index}))
      --first;
    for (; first < step; ++first)
      (void)outputs(first, index);
    auto known = known_states({step - 1, index});
    PLUMB_CHECK(known.has_value());
    return *std::move(known);
  }
  for (const int state : stage.states)
    states.push_back(empty_state(network_.graph.states[static_cast<std::size_t>(state)]));
  // What is remembered goes with the window that the patch says.
  if (const auto changed = patch_.stages.find(index); changed != patch_.stages.end()) {
    if (const auto* attend = std::get_if<AttendShared>(&changed->second.operation)) {
      for (StateValue& state : states) {
        if (auto* window = std::get_if<TokenWindow>(&state)) window->window = attend->window;
      }
    }
  }
  return states;
}

const std::vector<Tensor>& Recompute::outputs(std::size_t step, int index) {
  const Key key{step, index};
  if (const auto found = computed_.find(key); found != computed_.end()) return found->second;
  if (base_ != nullptr && !differs(step, index)) {
    if (const auto* known = base_->known_outputs(key)) return *known;
  }
  const Stage& stage = stage_in(step, index);
  if (std::holds_alternative<Tokens>(stage.operation) ||
      std::holds_alternative<Positions>(stage.operation)) {
    return computed_[key] = source(step, index);
  }
  std::vector<StateValue> states = states_before(step, index);
  const StageOperands given = operands(step, index, states);
  // Other arithmetic is of the stage's own operation: where the patch puts another in its place, that one runs.
  const auto other = patch(step).computations.find(index);
  const bool own = stage.operation.index() ==
                   network_.graph.stages[static_cast<std::size_t>(index)].operation.index();
  auto result = own && other != patch(step).computations.end() ? other->second(stage, given, context(step, index))
                                                                : run_stage(stage, given, context(step, index));
  const bool plain = !patch(step).computations.contains(index);
  if (plain && std::holds_alternative<Index>(stage.operation) && captured_.ties() == Ties::kTorch)
    choose_as_torch(stage, captured_.known_length(step), result);
  if (plain) take_preferred(stage, index, step, captured_.preferences(), given, context(step, index), result);
  if (!stage.states.empty()) keep_states(key, std::move(states));
  if (const int choice = choice_of(stage); choice >= 0) {
    if (const auto theirs = captured(step, {index, choice}))
      take_order_of(stage, theirs->values, result);
  }
  return keep(key, std::move(result));
}

// Other arithmetic may look at the rows before.
bool Recompute::cuts(std::size_t step, int index) const {
  return logits_ && step == logits_->step && index == network_.graph.logits.stage && !patch(step).computations.contains(index) &&
         std::holds_alternative<Logits>(stage_in(step, index).operation);
}

StageOperands Recompute::operands(std::size_t step, int index, std::vector<StateValue>& states) {
  const Stage& stage = stage_in(step, index);
  StageOperands given;
  for (const Value input : stage.inputs)
    given.inputs.push_back(&operand(step, input));
  if (cuts(step, index) && logits_->count < given.inputs[0]->tokens()) {
    const Tensor& all = *given.inputs[0];
    last_hidden_ = rows_from(all, all.tokens() - logits_->count, logits_->count);
    given.inputs[0] = &last_hidden_;
  }
  for (const int param : stage.params) {
    const auto weight = patch(step).weights.find(param);
    given.weights.push_back(weight != patch(step).weights.end() ? weight->second.get()
                                                                : network_.weights[static_cast<std::size_t>(param)].get());
  }
  for (StateValue& state : states)
    given.states.push_back(&state);
  return given;
}

StageContext Recompute::context(std::size_t step, int index) const {
  return {.numerics = numerics_, .pool = &pool_, .known_length = captured_.known_length(step), .all_outputs = true,
          .float_attention = reference::attends_in_float(network_, static_cast<std::size_t>(index))};
}

// What comes out as in the base, bit by bit, differs no more: nor does what follows. A state may differ all the same.
const std::vector<Tensor>& Recompute::keep(Key key, std::vector<Tensor> outputs) {
  const bool ends = network_.graph.stages[static_cast<std::size_t>(key.second)].states.empty() || last_ == key.first;
  const auto* known = base_ != nullptr && ends ? base_->known_outputs(key) : nullptr;
  const auto same = [](const Tensor& a, const Tensor& b) { return a.shape == b.shape && a.data == b.data; };
  if (known == nullptr || !std::ranges::equal(*known, outputs, same)) return computed_[key] = std::move(outputs);
  differs_[key] = false;
  return *known;
}

bool Recompute::due(std::size_t step, int index) {
  return base_ != nullptr && !computed_.contains({step, index}) && differs(step, index);
}

bool Recompute::may_join(std::size_t step, int index) {
  const Stage& own = network_.graph.stages[static_cast<std::size_t>(index)];
  const bool product = std::holds_alternative<Linear>(own.operation) || std::holds_alternative<GroupedLinear>(own.operation) ||
                       std::holds_alternative<Logits>(own.operation) || std::holds_alternative<Experts>(own.operation);
  const Patch& now = patch(step);
  return product && !now.stages.contains(index) && !now.computations.contains(index) &&
         std::ranges::none_of(own.params, [&](int param) { return now.weights.contains(param); });
}

namespace {

// Whether two stages' operands can stand one behind the other: a router may have chosen another number of experts.
bool alike(const StageOperands& a, const StageOperands& b) {
  return std::ranges::equal(a.inputs, b.inputs, [](const Tensor* x, const Tensor* y) {
    return x->shape.size() == y->shape.size() && std::equal(x->shape.begin() + 1, x->shape.end(), y->shape.begin() + 1);
  });
}

Tensor stacked(const std::vector<StageOperands>& all, std::size_t input) {
  Shape shape = all[0].inputs[input]->shape;
  shape[0] = 0;
  for (const StageOperands& each : all)
    shape[0] += each.inputs[input]->tokens();
  Tensor together(std::move(shape));
  auto at = together.data.begin();
  for (const StageOperands& each : all)
    at = std::ranges::copy(each.inputs[input]->data, at).out;
  return together;
}

}  // namespace

void Recompute::run_together(std::span<Recompute* const> lanes, std::size_t step, int index) {
  std::vector<Recompute*> joined;
  std::vector<StageOperands> given;
  std::vector<StateValue> none;
  for (Recompute* lane : lanes) {
    if (!lane->due(step, index)) continue;
    if (lane->may_join(step, index)) {
      auto own = lane->operands(step, index, none);
      if (joined.empty() || alike(own, given[0])) {
        joined.push_back(lane);
        given.push_back(std::move(own));
        continue;
      }
    }
    lane->outputs(step, index);
  }
  if (joined.empty()) return;
  std::vector<Tensor> inputs;
  for (std::size_t i = 0; i < given[0].inputs.size(); ++i)
    inputs.push_back(stacked(given, i));
  StageOperands together{.inputs = {}, .weights = given[0].weights, .states = {}};
  for (const Tensor& input : inputs)
    together.inputs.push_back(&input);
  const auto results = run_stage(joined[0]->stage_in(step, index), together, joined[0]->context(step, index));
  std::int64_t first = 0;
  for (std::size_t i = 0; i < joined.size(); ++i) {
    const std::int64_t tokens = given[i].inputs[0]->tokens();
    std::vector<Tensor> own;
    for (const Tensor& result : results)
      own.push_back(rows_from(result, first, tokens));
    first += tokens;
    joined[i]->keep({step, index}, std::move(own));
  }
}

void Recompute::forget(std::size_t step, int index) {
  computed_.erase({step, index});
  states_after_.erase({step, index});
}

std::vector<int> Recompute::span_of(std::size_t step, Value value) {
  std::set<int> found;
  std::vector<int> pending = {value.stage};
  while (!pending.empty()) {
    const int stage = pending.back();
    pending.pop_back();
    if (!found.insert(stage).second) continue;
    for (const Value input : network_.graph.stages[static_cast<std::size_t>(stage)].inputs) {
      if (!captured(step, input)) pending.push_back(input.stage);
    }
  }
  return {found.begin(), found.end()};
}

}  // namespace plumb
