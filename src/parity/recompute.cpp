// Demand-driven evaluation with memory: a stage is run once per step, its states advanced through the steps before.
#include "parity/recompute.h"

#include <algorithm>

#include "core/check.h"
#include "parity/choices.h"

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

}  // namespace

const Stage& Recompute::stage_in(std::size_t step, int index) const {
  const auto& stages = patch(step).stages;
  const auto changed = stages.find(index);
  return changed != stages.end() ? changed->second
                                 : network_.graph.stages[static_cast<std::size_t>(index)];
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

Recompute::Recompute(const BoundGraph& network, const Captured& captured, Numerics numerics,
                     ThreadPool& pool, const Patch& patch)
    : network_(network), captured_(captured), numerics_(numerics), pool_(pool), patch_(patch) {}

Recompute::Recompute(const Recompute& base, ThreadPool& pool, const Patch& patch,
                     std::set<int> touched)
    : network_(base.network_),
      captured_(base.captured_),
      numerics_(base.numerics_),
      pool_(pool),
      patch_(patch),
      base_(&base),
      touched_(std::move(touched)) {}

std::shared_ptr<const CapturedValue> Recompute::captured(std::size_t step, Value value) {
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

const std::vector<StateValue>* Recompute::known_states(Key key) const {
  if (const auto found = states_after_.find(key); found != states_after_.end())
    return &found->second;
  const auto other = differs_.find(key);
  const bool same = base_ != nullptr && other != differs_.end() && !other->second;
  return same ? base_->known_states(key) : nullptr;
}

// Whether a stage's outputs in `step` depend on a touched stage.
bool Recompute::differs(std::size_t step, int index) {
  if (touched_.contains(index)) return true;
  const Key key{step, index};
  if (const auto found = differs_.find(key); found != differs_.end()) return found->second;
  const Stage& stage = stage_in(step, index);
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
    const Key before{step - 1, index};
    (void)outputs(step - 1, index);
    const auto* known = known_states(before);
    PLUMB_CHECK(known != nullptr);
    return *known;
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
  StageOperands operands;
  for (const Value input : stage.inputs)
    operands.inputs.push_back(&operand(step, input));
  for (const int param : stage.params) {
    const auto weight = patch(step).weights.find(param);
    operands.weights.push_back(weight != patch(step).weights.end()
                                   ? weight->second.get()
                                   : network_.weights[static_cast<std::size_t>(param)].get());
  }
  for (StateValue& state : states)
    operands.states.push_back(&state);
  const TraceStep& pass = captured_.steps()[step];
  const StageContext context{.numerics = numerics_,
                             .pool = &pool_,
                             .known_length = pass.first + pass.count,
                             .all_outputs = true};
  // Other arithmetic is of the stage's own operation: where the patch puts another in its place, that one runs.
  const auto other = patch(step).computations.find(index);
  const bool own = stage.operation.index() ==
                   network_.graph.stages[static_cast<std::size_t>(index)].operation.index();
  auto& result = computed_[key] = own && other != patch(step).computations.end()
                                      ? other->second(stage, operands, context)
                                      : run_stage(stage, operands, context);
  if (!stage.states.empty()) states_after_[key] = std::move(states);
  if (const int choice = choice_of(stage); choice >= 0) {
    if (const auto theirs = captured(step, {index, choice}))
      take_order_of(stage, theirs->values, result);
  }
  return result;
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
