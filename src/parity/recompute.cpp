// Demand-driven evaluation with memory: a stage is run once per step, its states advanced through the steps before.
#include "parity/recompute.h"

#include <algorithm>
#include <set>

namespace plumb {
namespace {

bool fits(const Shape& captured, const Shape& token_shape, std::int64_t tokens) {
  if (captured.size() != token_shape.size() + 1 || captured[0] != tokens) return false;
  for (std::size_t i = 0; i < token_shape.size(); ++i) {
    if (token_shape[i] != kAnyLength && token_shape[i] != captured[i + 1]) return false;
  }
  return true;
}

}  // namespace

BoundGraph patched(const BoundGraph& bound, const Patch& patch) {
  BoundGraph result = bound;
  for (const auto& [index, stage] : patch.stages)
    result.graph.stages[static_cast<std::size_t>(index)] = stage;
  for (const auto& [index, weight] : patch.weights)
    result.weights[static_cast<std::size_t>(index)] = weight;
  return result;
}

Recompute::Recompute(const BoundGraph& network, const Captured& captured, Numerics numerics,
                     ThreadPool& pool, const Patch& patch)
    : network_(network), captured_(captured), numerics_(numerics), pool_(pool), patch_(patch) {}

std::shared_ptr<const CapturedValue> Recompute::captured(std::size_t step, Value value) {
  const auto key = std::make_pair(Key{step, value.stage}, value.output);
  if (const auto found = held_.find(key); found != held_.end()) return found->second;
  const Output& output = network_.graph.output(value);
  auto held = captured_.value(step, output.name);
  if (held && !fits(held->values.shape, output.shape, captured_.steps()[step].count))
    held = nullptr;
  return held_[key] = std::move(held);
}

const Tensor& Recompute::operand(std::size_t step, Value value) {
  if (const auto held = captured(step, value)) return held->values;
  return computed(step, value);
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

const std::vector<Tensor>& Recompute::outputs(std::size_t step, int index) {
  const Key key{step, index};
  if (const auto found = computed_.find(key); found != computed_.end()) return found->second;
  const auto changed = patch_.stages.find(index);
  const Stage& stage = changed != patch_.stages.end()
                           ? changed->second
                           : network_.graph.stages[static_cast<std::size_t>(index)];
  if (std::holds_alternative<Tokens>(stage.operation) ||
      std::holds_alternative<Positions>(stage.operation)) {
    return computed_[key] = source(step, index);
  }
  std::vector<StateValue> states;
  if (!stage.states.empty() && step > 0) {
    (void)outputs(step - 1, index);
    states = states_after_[{step - 1, index}];
  } else {
    for (const int state : stage.states)
      states.push_back(empty_state(network_.graph.states[static_cast<std::size_t>(state)]));
  }
  StageOperands operands;
  for (const Value input : stage.inputs)
    operands.inputs.push_back(&operand(step, input));
  for (const int param : stage.params) {
    const auto weight = patch_.weights.find(param);
    operands.weights.push_back(weight != patch_.weights.end()
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
  auto& result = computed_[key] = run_stage(stage, operands, context);
  if (!stage.states.empty()) states_after_[key] = std::move(states);
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
