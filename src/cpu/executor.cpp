// Running a plan: for each pass over the next tokens of every sequence, each stage in order.
#include "cpu/executor.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <cmath>
#include <mutex>
#include <set>

#include "cpu/cache_type.h"
#include "cpu/multiply.h"
#include "cpu/ops/ops.h"
#include "cpu/path_words.h"
#include "cpu/plan.h"

namespace plumb::cpu {

namespace {

// Tokens of a sequence that are computed together where the caller does not say: enough that unpacking a weight costs
// little beside its products.
constexpr std::int64_t kUsualChunk = 256;
// Of the time that the last pass took, what the next may spend on packing panels for good; what is not packed is laid out as it is
// used, which costs a step a third more time. New memory may come at the speed of memory or at a hundredth of it (docs/performance.md),
// so time is the measure; and the first pass packs nothing.
constexpr double kPackingShare = 0.25;
// Positions and ids are held as floats.
constexpr std::int64_t kMostPositions = 1 << 24;

class CpuSequence final : public Sequence {
 public:
  CpuSequence(const Graph& graph, std::span<const CacheType> caches, const BlockStore& store) {
    for (std::size_t i = 0; i < graph.states.size(); ++i)
      states.push_back(empty_state(graph.states[i], caches[i], store));
  }
  std::int64_t length() const override { return fed; }

  std::int64_t fed = 0;
  std::vector<StateValue> states;
};

// One sequence's part of a forward pass.
struct Feed {
  CpuSequence* sequence;
  std::span<const std::int32_t> ids;  // what is left
  std::int64_t known_length;
  std::int64_t begun;  // tokens of the sequence before
};

class CpuExecutor final : public Executor {
 public:
  CpuExecutor(const BoundGraph& network, const CpuOptions& options)
      : network_(network),
        options_(options),
        kernels_(kernels_for(options.isa)),
        pool_(options.threads),
        plan_(make_plan(network, options.activations, kernels_, pool_)),
        vocab_(network.graph.output(network.graph.logits).shape[0]),
        caches_(network.graph.states.size(), options.cache) {
    const auto& stages = network.graph.stages;
    for (std::size_t i = 0; i < stages.size(); ++i) {
      rounded_attention_.push_back(options.cache == CacheType::kF32 &&
                                   rounds_attention(plan_.values_from[i], options.activations, kernels_));
      if (!rounded_attention_[i]) continue;
      for (const int state : stages[i].states)
        caches_[static_cast<std::size_t>(state)] = CacheType::kInt16;
    }
  }

  std::unique_ptr<Sequence> start() const override {
    return std::make_unique<CpuSequence>(network_.graph, caches_, blocks_);
  }

  std::unique_ptr<Sequence> fork(const Sequence& sequence) const override {
    const std::lock_guard lock(one_at_a_time_);
    return std::make_unique<CpuSequence>(dynamic_cast<const CpuSequence&>(sequence));
  }

  Result<Tensor> forward(Sequence& sequence, std::span<const std::int32_t> ids,
                         const ForwardOptions& options) const override {
    const BatchItem item = {.sequence = &sequence, .ids = ids};
    PLUMB_TRY(std::vector<Tensor> logits, forward_batch(std::span(&item, 1), options));
    return std::move(logits[0]);
  }

  Result<std::vector<Tensor>> forward_batch(std::span<const BatchItem> items,
                                            const ForwardOptions& options) const override;

  void prepare() const override {
    const std::lock_guard lock(one_at_a_time_);
    for (const auto& matrix : plan_.matrices) {
      if (matrix != nullptr) matrix->pack(pool_, kernels_);
    }
  }

  std::string path_of(std::size_t param) const override {
    const auto& matrix = plan_.matrices[param];
    if (matrix == nullptr) return {};
    return matrix->path() + ", " + activation_words(activations_for(*matrix, options_.activations, kernels_));
  }

  StateBytes bytes_of(std::size_t state) const override {
    return cpu::bytes_of(network_.graph.states[state], caches_[state]);
  }

  std::string describe() const override {
    return "cpu executor, " + std::string(to_string(options_.isa)) + ", " +
           std::string(to_string(options_.activations)) + " activations (" +
           computed_words(network_.graph, plan_, rounded_attention_, options_.activations, kernels_) + "), " + cache_words() +
           std::to_string(pool_.threads()) + (pool_.threads() == 1 ? " thread" : " threads");
  }

 private:
  std::string cache_words() const {
    return options_.cache == CacheType::kF32 ? "" : std::string(to_string(options_.cache)) + " cache, ";
  }
  Status check(std::span<const BatchItem> items) const;
  Array run_pass(std::span<Feed> feeds, std::int64_t chunk, std::vector<Segment>& segments,
                 const ForwardOptions& options) const;
  void compute(std::size_t index, const Context& context, std::vector<Outputs>& values) const;

  const BoundGraph& network_;
  CpuOptions options_;
  const Kernels& kernels_;
  mutable ThreadPool pool_;
  mutable BufferPool buffers_;
  mutable std::mutex one_at_a_time_;
  mutable std::atomic<std::int64_t> rows_read_ = 0;
  mutable double pass_seconds_ = 0;  // of the last pass, without packing
  Plan plan_;
  std::int64_t vocab_;
  std::vector<bool> rounded_attention_;  // by stage
  std::vector<CacheType> caches_;        // by state
  BlockStore blocks_;
};

bool keeps_keys(const Graph& graph) {
  return std::any_of(graph.states.begin(), graph.states.end(),
                     [](const State& state) { return std::holds_alternative<KeyValueState>(state.kind); });
}

bool any_wanted(const StageObserver* observer, const Stage& stage) {
  return observer != nullptr &&
         std::any_of(stage.outputs.begin(), stage.outputs.end(),
                     [&](const Output& output) { return observer->wants(output.name); });
}

// What observers see: rows of all sequences of the batch, or a list's rows.
Tensor tensor_of(const Array& x) {
  Shape shape = x.shape;
  for (const Array::List& list : x.lists)
    shape[0] += list.rows;
  Tensor tensor(shape);
  if (x.lists.empty()) {
    std::copy_n(x.data(), x.size(), tensor.data.begin());
    return tensor;
  }
  auto to = tensor.data.begin();
  for (const Array::List& list : x.lists)
    to = std::copy_n(list.data, list.rows * x.width(), to);
  return tensor;
}

void show(StageObserver& observer, const Stage& stage, const Outputs& values) {
  for (std::size_t o = 0; o < stage.outputs.size(); ++o) {
    if (!values[o].shape.empty() && observer.wants(stage.outputs[o].name))
      observer.observe(stage.outputs[o].name, tensor_of(values[o]));
  }
}

// Rows of logits as results hold them. Whether all are finite.
bool take_rows(std::span<const float> logits, double* to) {
  constexpr std::int32_t kInfinity = 0x7f800000;
  std::int32_t largest = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    to[i] = logits[i];
    largest = std::max(largest, std::bit_cast<std::int32_t>(logits[i]) & 0x7fffffff);
  }
  return largest < kInfinity;
}

// The last row of each segment.
Array last_rows(const Array& x, const Context& context) {
  Shape shape = x.shape;
  shape[0] = static_cast<std::int64_t>(context.segments.size());
  Array rows(std::move(shape), *context.buffers);
  for (std::size_t s = 0; s < context.segments.size(); ++s) {
    const Segment& segment = context.segments[s];
    std::copy_n(x.row(segment.first + segment.rows - 1), x.width(),
                rows.row(static_cast<std::int64_t>(s)));
  }
  return rows;
}

void CpuExecutor::compute(std::size_t index, const Context& context,
                          std::vector<Outputs>& values) const {
  const auto operands_of = [&](std::size_t i) {
    const Stage& stage = network_.graph.stages[i];
    Operands operands = {
        .stage = &stage, .inputs = {}, .weights = &plan_.weights[i], .rounded_attention = rounded_attention_[i]};
    for (const Value input : stage.inputs) {
      operands.inputs.push_back(
          &values[static_cast<std::size_t>(input.stage)][static_cast<std::size_t>(input.output)]);
    }
    return operands;
  };
  const Stage& stage = network_.graph.stages[index];
  if (std::holds_alternative<Linear>(stage.operation)) {
    std::vector<Operands> all;
    for (const std::size_t i : plan_.together[index])
      all.push_back(operands_of(i));
    if (all.empty()) return;  // computed with an earlier one
    std::vector<Array> outputs = run_linears(all, context);
    for (std::size_t i = 0; i < all.size(); ++i)
      values[plan_.together[index][i]].push_back(std::move(outputs[i]));
    return;
  }
  const Operands operands = operands_of(index);
  values[index] = std::visit(
      [&](const auto& op) -> Outputs {
        using Op = std::remove_cvref_t<decltype(op)>;
        if constexpr (std::is_same_v<Op, Tokens> || std::is_same_v<Op, Positions>) {
          return {};
        } else {
          return run(op, operands, context);
        }
      },
      stage.operation);
}

Array CpuExecutor::run_pass(std::span<Feed> feeds, std::int64_t chunk,
                            std::vector<Segment>& segments, const ForwardOptions& options) const {
  const auto& stages = network_.graph.stages;
  std::vector<float> ids;
  std::vector<float> at;
  for (Feed& feed : feeds) {
    const auto rows = std::min<std::int64_t>(chunk, std::ssize(feed.ids));
    if (rows == 0) continue;
    segments.push_back({.states = &feed.sequence->states,
                        .first = std::ssize(ids),
                        .rows = rows,
                        .position = feed.sequence->fed,
                        .known_length = feed.known_length});
    for (std::int64_t i = 0; i < rows; ++i) {
      ids.push_back(static_cast<float>(feed.ids[static_cast<std::size_t>(i)]));
      at.push_back(static_cast<float>(feed.sequence->fed + i));
    }
  }
  const auto n = std::ssize(ids);
  std::map<std::pair<const Rope*, const Array*>, RotaryTable> tables;
  const auto begun = std::chrono::steady_clock::now();
  const double may_pack = kPackingShare * pass_seconds_;
  double packing = may_pack;
  const Context context = {.kernels = &kernels_,
                           .pool = &pool_,
                           .buffers = &buffers_,
                           .segments = segments,
                           .activations = options_.activations,
                           .tables = &tables,
                           .same_rope = &plan_.same_rope,
                           .rows_read = &rows_read_,
                           .observer = options.observer,
                           .packing_seconds = &packing};
  std::vector<Outputs> values(stages.size());
  const auto source = [&](const std::vector<float>& from) {
    Outputs outputs;
    outputs.emplace_back(Shape{n}, buffers_);
    std::copy(from.begin(), from.end(), outputs[0].data());
    return outputs;
  };
  const auto logits = static_cast<std::size_t>(network_.graph.logits.stage);
  for (std::size_t i = 0; i < stages.size(); ++i) {
    const Stage& stage = stages[i];
    const bool wanted = any_wanted(options.observer, stage);
    if (std::holds_alternative<Tokens>(stage.operation)) {
      values[i] = source(ids);
      continue;
    }
    if (std::holds_alternative<Positions>(stage.operation)) {
      values[i] = source(at);
      continue;
    }
    if (i == logits && options.rows == LogitRows::kLast && !wanted) {
      Array& x = values[static_cast<std::size_t>(stage.inputs[0].stage)]
                       [static_cast<std::size_t>(stage.inputs[0].output)];
      x = last_rows(x, context);
    }
    compute(i, context, values);
    for (std::size_t thread = 1; thread < plan_.ahead[i].size(); ++thread)
      pool_.ask_ahead(static_cast<int>(thread), plan_.ahead[i][thread].data(), std::ssize(plan_.ahead[i][thread]));
    if (wanted) show(*options.observer, stage, values[i]);
    for (const Value input : stage.inputs) {
      if (plan_.last_use[static_cast<std::size_t>(input.stage)] == i)
        values[static_cast<std::size_t>(input.stage)].clear();
    }
  }
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begun;
  pass_seconds_ = elapsed.count() - (may_pack - packing);
  return std::move(values[logits][static_cast<std::size_t>(network_.graph.logits.output)]);
}

Status CpuExecutor::check(std::span<const BatchItem> items) const {
  if (plan_.refusal) return Error{ErrorCode::kUnsupported, *plan_.refusal};
  if (options_.cache != CacheType::kF32 && !keeps_keys(network_.graph)) {
    return Error{ErrorCode::kUnsupported, "no stage of this network keeps keys and values apart: a cache type " +
                                              std::string(to_string(options_.cache)) + " has nothing to be the type of"};
  }
  std::set<const Sequence*> seen;
  for (const BatchItem& item : items) {
    if (item.ids.empty())
      return Error{ErrorCode::kInvalidArgument, "no tokens to feed: the prompt is empty"};
    if (!seen.insert(item.sequence).second)
      return Error{ErrorCode::kInvalidArgument, "a sequence is twice in one batch"};
    for (const std::int32_t id : item.ids) {
      if (id >= 0 && id < std::min(vocab_, kMostPositions)) continue;
      return Error{ErrorCode::kInvalidArgument, "token id " + std::to_string(id) +
                                                    " is outside the vocabulary of " +
                                                    std::to_string(vocab_) + " entries"};
    }
    if (item.sequence->length() + std::ssize(item.ids) > kMostPositions) {
      return Error{ErrorCode::kInvalidArgument,
                   "the sequence would have " +
                       std::to_string(item.sequence->length() + std::ssize(item.ids)) +
                       " tokens, more than the " + std::to_string(kMostPositions) + " possible"};
    }
  }
  return {};
}

Result<std::vector<Tensor>> CpuExecutor::forward_batch(std::span<const BatchItem> items,
                                                       const ForwardOptions& options) const {
  PLUMB_TRY_STATUS(check(items));
  const std::lock_guard lock(one_at_a_time_);
  const bool all = options.rows == LogitRows::kAll;
  const std::int64_t chunk = options.chunk > 0 ? options.chunk : kUsualChunk;
  std::vector<Feed> feeds;
  std::vector<Tensor> results;
  std::vector<bool> finite(items.size(), true);
  std::int64_t left = 0;
  for (const BatchItem& item : items) {
    auto& own = dynamic_cast<CpuSequence&>(*item.sequence);
    feeds.push_back({&own, item.ids, own.fed + std::ssize(item.ids), own.fed});
    results.emplace_back(Shape{all ? std::ssize(item.ids) : 1, vocab_});
    left += std::ssize(item.ids);
  }
  std::int64_t done = 0;
  while (done < left) {
    std::vector<Segment> segments;
    const Array logits = run_pass(feeds, chunk, segments, options);
    const bool per_token = logits.rows() != std::ssize(segments) || all;
    std::size_t s = 0;
    for (std::size_t i = 0; i < feeds.size(); ++i) {
      Feed& feed = feeds[i];
      if (feed.ids.empty()) continue;
      const Segment& segment = segments[s++];
      const std::int64_t before = feed.sequence->fed - feed.begun;
      feed.sequence->fed += segment.rows;
      feed.ids = feed.ids.subspan(static_cast<std::size_t>(segment.rows));
      done += segment.rows;
      if (!all && !feed.ids.empty()) continue;
      const std::int64_t rows = all ? segment.rows : 1;
      const std::int64_t row = all ? segment.first : per_token ? segment.first + segment.rows - 1 : static_cast<std::int64_t>(s) - 1;
      const std::span from(logits.row(row), static_cast<std::size_t>(rows * vocab_));
      finite[i] = take_rows(from, results[i].data.data() + (all ? before : 0) * vocab_) && finite[i];
    }
    if (options.progress && !options.progress(done))
      return Error{ErrorCode::kCancelled, "cancelled after " + std::to_string(done) + " tokens"};
  }
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (finite[i]) continue;
    const auto& data = results[i].data;
    const auto bad = std::find_if(data.begin(), data.end(), [](double x) { return !std::isfinite(x); });
    const std::int64_t at = bad - data.begin();
    const std::int64_t position = feeds[i].sequence->fed - results[i].tokens() + at / vocab_;
    return Error{ErrorCode::kInternal, "the logits at position " + std::to_string(position) +
                                           " are not finite (id " + std::to_string(at % vocab_) +
                                           ")"};
  }
  return results;
}

}  // namespace

std::string_view to_string(Activations activations) {
  constexpr std::string_view kNames[] = {"exact", "auto", "short"};
  return kNames[static_cast<std::size_t>(activations)];
}

Result<Activations> activations_from_name(std::string_view name) {
  for (const Activations activations : {Activations::kExact, Activations::kAuto, Activations::kShort}) {
    if (to_string(activations) == name) return activations;
  }
  return Error{ErrorCode::kInvalidArgument, "activations \"" + std::string(name) +
                                                "\" are not known; known are exact, auto and short"};
}

std::unique_ptr<Executor> make_cpu_executor(const BoundGraph& network, const CpuOptions& options) {
  return std::make_unique<CpuExecutor>(network, options);
}

}  // namespace plumb::cpu
