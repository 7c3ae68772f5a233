// Interpreting the graph: for each chunk of tokens, each stage in order, values dropped after their
// last use.
#include "reference/executor.h"

#include <algorithm>
#include <cmath>
#include <mutex>

#include "core/check.h"
#include "reference/int16.h"
#include "reference/stage.h"

namespace plumb {
namespace {

class ReferenceSequence final : public Sequence {
 public:
  explicit ReferenceSequence(const Graph& graph) {
    for (const State& state : graph.states)
      states.push_back(empty_state(state));
  }
  std::int64_t length() const override { return fed; }

  std::int64_t fed = 0;
  std::vector<StateValue> states;
};

class ReferenceExecutor final : public Executor {
 public:
  ReferenceExecutor(const BoundGraph& network, Precision precision, int threads)
      : network_(network), numerics_(precision), pool_(threads) {
    const auto& stages = network.graph.stages;
    last_use_.resize(stages.size(), 0);
    for (std::size_t i = 0; i < stages.size(); ++i) {
      for (const Value input : stages[i].inputs)
        last_use_[static_cast<std::size_t>(input.stage)] = i;
    }
    last_use_[static_cast<std::size_t>(network.graph.logits.stage)] = stages.size();
    vocab_ = network.graph.output(network.graph.logits).shape[0];
    for (std::size_t i = 0; i < stages.size(); ++i)
      float_attention_.push_back(reference::attends_in_float(network, i));
  }

  std::unique_ptr<Sequence> start() const override {
    return std::make_unique<ReferenceSequence>(network_.graph);
  }

  std::unique_ptr<Sequence> fork(const Sequence& sequence) const override {
    return std::make_unique<ReferenceSequence>(dynamic_cast<const ReferenceSequence&>(sequence));
  }

  Result<Tensor> forward(Sequence& sequence, std::span<const std::int32_t> ids,
                         const ForwardOptions& options) const override;

  // As doubles, whatever they are rounded to.
  StateBytes bytes_of(std::size_t state) const override {
    return plumb::bytes_of(network_.graph.states[state], sizeof(double));
  }

  std::string describe() const override {
    return "reference executor, " + std::string(to_string(numerics_.precision())) + ", " +
           std::to_string(pool_.threads()) + (pool_.threads() == 1 ? " thread" : " threads");
  }

 private:
  Tensor run_chunk(ReferenceSequence& sequence, std::span<const std::int32_t> ids,
                   std::int64_t known_length, const ForwardOptions& options) const;
  void compute(std::size_t index, ReferenceSequence& sequence, const StageContext& context,
               std::vector<std::vector<Tensor>>& values) const;

  const BoundGraph& network_;
  Numerics numerics_;
  mutable ThreadPool pool_;
  mutable std::mutex one_at_a_time_;
  std::vector<std::size_t> last_use_;  // by stage: the last stage that reads it
  std::int64_t vocab_ = 0;
  std::vector<bool> float_attention_;  // by stage
};

bool any_wanted(const StageObserver* observer, const Stage& stage) {
  return observer != nullptr &&
         std::any_of(stage.outputs.begin(), stage.outputs.end(),
                     [&](const Output& output) { return observer->wants(output.name); });
}

// The row of the last token alone.
Tensor last_row(const Tensor& x) {
  Shape shape = x.shape;
  shape[0] = 1;
  Tensor row(shape);
  std::ranges::copy(x.row(x.tokens() - 1), row.data.begin());
  return row;
}

void ReferenceExecutor::compute(std::size_t index, ReferenceSequence& sequence,
                                const StageContext& context,
                                std::vector<std::vector<Tensor>>& values) const {
  const Stage& stage = network_.graph.stages[index];
  StageOperands operands;
  for (const Value input : stage.inputs) {
    operands.inputs.push_back(
        &values[static_cast<std::size_t>(input.stage)][static_cast<std::size_t>(input.output)]);
  }
  for (const int param : stage.params)
    operands.weights.push_back(network_.weights[static_cast<std::size_t>(param)].get());
  for (const int state : stage.states)
    operands.states.push_back(&sequence.states[static_cast<std::size_t>(state)]);
  values[index] = run_stage(stage, operands, context);
}

Tensor ReferenceExecutor::run_chunk(ReferenceSequence& sequence, std::span<const std::int32_t> ids,
                                    std::int64_t known_length,
                                    const ForwardOptions& options) const {
  const auto& stages = network_.graph.stages;
  const auto logits = static_cast<std::size_t>(network_.graph.logits.stage);
  const auto n = static_cast<std::int64_t>(ids.size());
  std::vector<std::vector<Tensor>> values(stages.size());
  Tensor tokens({n});
  Tensor positions({n});
  for (std::size_t t = 0; t < ids.size(); ++t) {
    tokens.data[t] = ids[t];
    positions.data[t] = static_cast<double>(sequence.fed + static_cast<std::int64_t>(t));
  }
  for (std::size_t i = 0; i < stages.size(); ++i) {
    const Stage& stage = stages[i];
    if (std::holds_alternative<Tokens>(stage.operation)) {
      values[i] = {tokens};
      continue;
    }
    if (std::holds_alternative<Positions>(stage.operation)) {
      values[i] = {positions};
      continue;
    }
    if (i == logits && options.rows == LogitRows::kLast && !any_wanted(options.observer, stage)) {
      for (const Value input : stage.inputs) {
        Tensor& x =
            values[static_cast<std::size_t>(input.stage)][static_cast<std::size_t>(input.output)];
        x = last_row(x);
      }
    }
    const bool wanted = any_wanted(options.observer, stage);
    compute(i, sequence, {numerics_, &pool_, known_length, wanted, float_attention_[i]}, values);
    for (std::size_t o = 0; wanted && o < stage.outputs.size(); ++o) {
      if (options.observer->wants(stage.outputs[o].name))
        options.observer->observe(stage.outputs[o].name, values[i][o]);
    }
    for (const Value input : stage.inputs) {
      if (last_use_[static_cast<std::size_t>(input.stage)] == i)
        values[static_cast<std::size_t>(input.stage)].clear();
    }
  }
  return std::move(values[logits][static_cast<std::size_t>(network_.graph.logits.output)]);
}

Result<Tensor> ReferenceExecutor::forward(Sequence& sequence, std::span<const std::int32_t> ids,
                                          const ForwardOptions& options) const {
  auto& own = dynamic_cast<ReferenceSequence&>(sequence);
  if (ids.empty())
    return Error{ErrorCode::kInvalidArgument, "no tokens to feed: the prompt is empty"};
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= vocab_) {
      return Error{ErrorCode::kInvalidArgument, "token id " + std::to_string(id) +
                                                    " is outside the vocabulary of " +
                                                    std::to_string(vocab_) + " entries"};
    }
  }
  const std::lock_guard lock(one_at_a_time_);
  const std::int64_t known_length = own.fed + static_cast<std::int64_t>(ids.size());
  const auto chunk = options.chunk > 0 ? static_cast<std::size_t>(options.chunk) : ids.size();
  const bool all = options.rows == LogitRows::kAll;
  Tensor result({all ? static_cast<std::int64_t>(ids.size()) : 1, vocab_});
  for (std::size_t first = 0; first < ids.size(); first += chunk) {
    const auto piece = ids.subspan(first, std::min(chunk, ids.size() - first));
    const Tensor logits = run_chunk(own, piece, known_length, options);
    own.fed += static_cast<std::int64_t>(piece.size());
    const bool end = first + piece.size() == ids.size();
    if (all) {
      std::ranges::copy(logits.data,
                        result.data.begin() + static_cast<std::int64_t>(first) * vocab_);
    } else if (end) {
      std::ranges::copy(logits.row(logits.tokens() - 1), result.data.begin());
    }
    if (options.progress && !options.progress(static_cast<std::int64_t>(first + piece.size()))) {
      return Error{ErrorCode::kCancelled, "cancelled after " + std::to_string(own.fed) + " tokens"};
    }
  }
  for (std::size_t i = 0; i < result.data.size(); ++i) {
    if (std::isfinite(result.data[i])) continue;
    const auto row = static_cast<std::int64_t>(i) / vocab_;
    const std::int64_t position =
        all ? own.fed - static_cast<std::int64_t>(ids.size()) + row : own.fed - 1;
    return Error{ErrorCode::kInternal,
                 "the logits at position " + std::to_string(position) + " are not finite (id " +
                     std::to_string(static_cast<std::int64_t>(i) % vocab_) + ")"};
  }
  return result;
}

}  // namespace

std::unique_ptr<Executor> make_reference_executor(const BoundGraph& network, Precision precision,
                                                  int threads) {
  return std::make_unique<ReferenceExecutor>(network, precision, threads);
}

}  // namespace plumb
