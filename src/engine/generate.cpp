// The loop of generation: feed, choose, show, until a stop.
#include "engine/generate.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "engine/stop_text.h"

namespace plumb {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

Status check(const Model& model, std::span<const std::int32_t> prompt_ids,
             const GenerateOptions& options) {
  PLUMB_TRY_STATUS(options.sampler.check());
  if (prompt_ids.empty()) return Error{ErrorCode::kInvalidArgument, "the prompt has no tokens"};
  if (options.max_tokens < 0) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("max-tokens is {}, but must be 0 or more", options.max_tokens)};
  }
  const auto& texts = options.stop_texts;
  if (std::any_of(texts.begin(), texts.end(), [](const auto& text) { return text.empty(); })) {
    return Error{ErrorCode::kInvalidArgument, "a stop text is empty"};
  }
  if (!texts.empty() && model.tokenizer == nullptr) {
    return Error{ErrorCode::kInvalidArgument,
                 "a stop text needs a tokenizer, and " + model.path.string() + " has none"};
  }
  return {};
}

// Turns ids into text that may be shown. Without a tokenizer there is none.
class TextStream {
 public:
  TextStream(const Tokenizer* tokenizer, const std::vector<std::string>& stop_texts)
      : stop_(stop_texts) {
    if (tokenizer != nullptr) decoder_.emplace(*tokenizer, true);
  }

  Result<std::string> push(TokenId id) {
    if (!decoder_) return std::string();
    PLUMB_TRY(const std::string piece, decoder_->push(id));
    return stop_.push(piece);
  }

  std::string finish() {
    std::string rest = decoder_ ? stop_.push(decoder_->finish()) : std::string();
    return rest + stop_.finish();
  }

  bool found_stop() const { return stop_.found(); }

 private:
  std::optional<StreamDecoder> decoder_;
  StopText stop_;
};

// One run: what generate() would otherwise pass between its steps.
class Run {
 public:
  Run(const Model& model, const Executor& executor, const GenerateOptions& options,
      const TextSink& sink)
      : model_(model),
        executor_(executor),
        options_(options),
        sink_(sink),
        sampler_(options.sampler),
        text_(model.tokenizer.get(), options.stop_texts),
        sequence_(executor.start()) {}

  Result<Generation> go(std::span<const std::int32_t> prompt_ids) {
    const Clock::time_point start = Clock::now();
    const ForwardOptions forward = {.rows = LogitRows::kLast,
                                    .chunk = options_.chunk,
                                    .observer = nullptr,
                                    .progress = options_.progress};
    PLUMB_TRY_STATUS(feed(prompt_ids, forward));
    result_.prompt_seconds = seconds_since(start);
    const Clock::time_point first = Clock::now();
    while (!finished_)
      PLUMB_TRY_STATUS(step());
    result_.generate_seconds = seconds_since(first);
    show(text_.finish());
    if (text_.found_stop()) finished_ = FinishReason::kStopText;
    result_.finish_reason = *finished_;
    return std::move(result_);
  }

 private:
  Status step() {
    if (std::ssize(result_.ids) >= options_.max_tokens) return finish(FinishReason::kLength);
    PLUMB_TRY(const std::int32_t id, sampler_.choose(logits_.row(logits_.tokens() - 1)));
    result_.ids.push_back(id);
    if (!options_.ignore_eos &&
        std::binary_search(model_.stop_ids.begin(), model_.stop_ids.end(), id)) {
      return finish(FinishReason::kStop);
    }
    PLUMB_TRY(const std::string piece, text_.push(id));
    show(piece);
    if (text_.found_stop()) return finish(FinishReason::kStopText);
    if (finished_ || std::ssize(result_.ids) == options_.max_tokens)
      return {};  // the last one need not be fed
    PLUMB_TRY_STATUS(feed(std::span(&id, 1), {}));
    const bool more = !options_.progress || options_.progress(sequence_->length());
    return more ? Status() : finish(FinishReason::kCancelled);
  }

  Status feed(std::span<const std::int32_t> ids, const ForwardOptions& forward) {
    Result<Tensor> logits = executor_.forward(*sequence_, ids, forward);
    if (!logits.ok() && logits.error().code == ErrorCode::kCancelled)
      return finish(FinishReason::kCancelled);
    if (!logits.ok()) return logits.error();
    logits_ = std::move(logits).value();
    return {};
  }

  void show(std::string_view piece) {
    if (piece.empty()) return;
    result_.text += piece;
    if (sink_ && !sink_(piece)) finished_ = FinishReason::kCancelled;
  }

  Status finish(FinishReason reason) {
    finished_ = reason;
    return {};
  }

  const Model& model_;
  const Executor& executor_;
  const GenerateOptions& options_;
  const TextSink& sink_;
  Sampler sampler_;
  TextStream text_;
  std::unique_ptr<Sequence> sequence_;
  Tensor logits_;
  Generation result_ = {};
  std::optional<FinishReason> finished_;
};

}  // namespace

std::string_view to_string(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kStopText:
      return "stop_text";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
  }
  return "";
}

Result<Generation> generate(const Model& model, const Executor& executor,
                            std::span<const std::int32_t> prompt_ids,
                            const GenerateOptions& options, const TextSink& sink) {
  PLUMB_TRY_STATUS(check(model, prompt_ids, options));
  return Run(model, executor, options, sink).go(prompt_ids);
}

}  // namespace plumb
