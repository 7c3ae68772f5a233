// Generation against an executor that says what it is told to say.
#include "engine/generate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <optional>

#include "core/mapped_file.h"

namespace plumb {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::int64_t kVocab = 1024;
constexpr std::int32_t kStopId = 2;

class CountingSequence final : public Sequence {
 public:
  std::int64_t length() const override { return fed; }
  std::int64_t fed = 0;
};

// After the prompt the likeliest ids are those of `script`, one after the other.
class ScriptedExecutor final : public Executor {
 public:
  explicit ScriptedExecutor(std::vector<std::int32_t> script) : script_(std::move(script)) {}

  std::unique_ptr<Sequence> start() const override { return std::make_unique<CountingSequence>(); }

  std::unique_ptr<Sequence> fork(const Sequence& sequence) const override {
    return std::make_unique<CountingSequence>(dynamic_cast<const CountingSequence&>(sequence));
  }
  Result<Tensor> forward(Sequence& sequence, std::span<const std::int32_t> ids,
                         const ForwardOptions& options) const override {
    auto& own = dynamic_cast<CountingSequence&>(sequence);
    forwards.emplace_back(ids.begin(), ids.end());
    chunks.push_back(options.chunk);
    const auto chunk = options.chunk > 0 ? static_cast<std::size_t>(options.chunk) : ids.size();
    for (std::size_t done = 0; done < ids.size();) {
      done = std::min(done + chunk, ids.size());
      if (options.progress && !options.progress(static_cast<std::int64_t>(done))) {
        return Error{ErrorCode::kCancelled, "cancelled"};
      }
    }
    own.fed += std::ssize(ids);
    if (failure && forwards.size() == failing_forward) return *failure;
    Tensor logits({1, kVocab});
    const std::size_t step = forwards.size() - 1;
    if (step < script_.size()) logits.data[static_cast<std::size_t>(script_[step])] = 1;
    if (step == nan_step) logits.data[7] = std::nan("");
    return logits;
  }

  StateBytes bytes_of(std::size_t) const override { return {}; }
  std::string describe() const override { return "scripted"; }

  mutable std::vector<std::vector<std::int32_t>> forwards;
  mutable std::vector<std::int64_t> chunks;
  std::optional<Error> failure;
  std::size_t failing_forward = 0;
  std::size_t nan_step = 1'000'000;

 private:
  std::vector<std::int32_t> script_;
};

Model model_with_tokenizer() {
  Model model;
  model.stop_ids = {0, kStopId};
  auto tokenizer = load_tokenizer(PLUMB_SOURCE_DIR "/models/demo");
  EXPECT_TRUE(tokenizer.ok());
  if (tokenizer.ok()) model.tokenizer = tokenizer.value();
  EXPECT_NE(model.tokenizer, nullptr);
  return model;
}

std::vector<std::int32_t> encode(const Model& model, std::string_view text) {
  const auto ids = model.tokenizer->encode(text, {.add_special = false, .parse_special = false});
  EXPECT_TRUE(ids.ok());
  return ids.ok() ? ids.value() : std::vector<std::int32_t>();
}

struct Outcome {
  Generation generation;
  std::string shown;
};

Outcome run(const Model& model, const ScriptedExecutor& executor, const GenerateOptions& options) {
  Outcome outcome = {};
  const std::vector<std::int32_t> prompt = {5, 6, 7};
  auto result = generate(model, executor, prompt, options, [&](std::string_view piece) {
    EXPECT_FALSE(piece.empty());
    outcome.shown += piece;
    return true;
  });
  EXPECT_TRUE(result.ok()) << (result.ok() ? "" : result.error().message);
  if (result.ok()) outcome.generation = std::move(result).value();
  EXPECT_EQ(outcome.shown, outcome.generation.text);
  return outcome;
}

TEST(Generate, FeedsThePromptThenEachTokenButTheLast) {
  const ScriptedExecutor executor({10, 11, 12, 13});
  const Outcome outcome = run({}, executor, {.max_tokens = 3, .chunk = 2});
  EXPECT_THAT(outcome.generation.ids, ElementsAre(10, 11, 12));
  EXPECT_EQ(outcome.generation.finish_reason, FinishReason::kLength);
  EXPECT_THAT(executor.forwards,
              ElementsAre(ElementsAre(5, 6, 7), ElementsAre(10), ElementsAre(11)));
  EXPECT_EQ(executor.chunks.front(), 2);
  EXPECT_EQ(outcome.shown, "");  // no tokenizer, no text
}

TEST(Generate, MayBeAskedForNothing) {
  const ScriptedExecutor executor({10});
  const Outcome outcome = run({}, executor, {.max_tokens = 0});
  EXPECT_TRUE(outcome.generation.ids.empty());
  EXPECT_EQ(outcome.generation.finish_reason, FinishReason::kLength);
}

TEST(Generate, EndsWithAStopIdThatIsNotShown) {
  const Model model = model_with_tokenizer();
  std::vector<std::int32_t> script = encode(model, "Paris");
  const std::size_t length = script.size();
  script.push_back(kStopId);
  script.insert(script.end(), 5, script.front());
  const Outcome stopped = run(model, ScriptedExecutor(script), {.max_tokens = 100});
  EXPECT_EQ(stopped.generation.ids.size(), length + 1);
  EXPECT_EQ(stopped.generation.ids.back(), kStopId);
  EXPECT_EQ(stopped.shown, "Paris");
  EXPECT_EQ(stopped.generation.finish_reason, FinishReason::kStop);

  const Outcome ignored =
      run(model, ScriptedExecutor(script),
          {.max_tokens = static_cast<std::int64_t>(length) + 2, .ignore_eos = true});
  EXPECT_EQ(ignored.generation.ids.size(), length + 2);
  EXPECT_EQ(ignored.generation.finish_reason, FinishReason::kLength);
  EXPECT_EQ(ignored.shown.find("im_end"), std::string::npos);
  EXPECT_EQ(ignored.shown.substr(0, 5), "Paris");
  EXPECT_GT(ignored.shown.size(), 5U);
}

bool is_boundary(const std::string& text, std::size_t at) {
  return at == text.size() || (static_cast<unsigned char>(text[at]) & 0xc0U) != 0x80U;
}

// Every stretch of the text as a stop text, so that the stops begin and end inside tokens, across them and on their edges.
TEST(Generate, EndsBeforeAStopTextWhereverItLies) {
  const Model model = model_with_tokenizer();
  const std::string text = "Hello wörld, the end of it: 東京 🙂 and so on.\n\nUser: the end";
  const std::vector<std::int32_t> script = encode(model, text);
  for (std::size_t begin = 0; begin < text.size(); ++begin) {
    for (std::size_t length = 1; length <= 9 && begin + length <= text.size(); ++length) {
      if (!is_boundary(text, begin) || !is_boundary(text, begin + length)) continue;
      const std::string stop = text.substr(begin, length);
      SCOPED_TRACE(stop);
      const Outcome outcome =
          run(model, ScriptedExecutor(script),
              {.max_tokens = std::ssize(script), .stop_texts = {"never", stop}});
      const std::string expected = text.substr(0, text.find(stop));
      ASSERT_EQ(outcome.shown, expected);
      EXPECT_EQ(outcome.generation.finish_reason, FinishReason::kStopText);
      // The ids end with the token that completes the stop text, or the character that a token began behind it: until then
      // a decoder yields none of that token's text.
      auto ids = outcome.generation.ids;
      EXPECT_NE(model.tokenizer->decode(ids, true).value().find(stop), std::string::npos);
      ids.pop_back();
      const std::string before = model.tokenizer->decode(ids, true).value();
      EXPECT_TRUE(before.find(stop) == std::string::npos || before.ends_with("\xef\xbf\xbd"))
          << before;
    }
  }
}

TEST(Generate, ShowsWhatWasHeldBackWhenNothingFollows) {
  const Model model = model_with_tokenizer();
  const std::vector<std::int32_t> script = encode(model, "one two thr");
  const Outcome outcome = run(model, ScriptedExecutor(script),
                              {.max_tokens = std::ssize(script), .stop_texts = {"three"}});
  EXPECT_EQ(outcome.shown, "one two thr");
  EXPECT_EQ(outcome.generation.finish_reason, FinishReason::kLength);
}

TEST(Generate, EndsInsideACharacterWithAReplacement) {
  const Model model = model_with_tokenizer();
  std::vector<std::int32_t> script = encode(model, "a🙂");
  ASSERT_GE(script.size(), 3U);  // the demonstration model's vocabulary spells it byte by byte
  script.pop_back();
  const Outcome outcome = run(model, ScriptedExecutor(script), {.max_tokens = std::ssize(script)});
  EXPECT_EQ(outcome.shown, model.tokenizer->decode(script, true).value());
  EXPECT_THAT(outcome.shown, HasSubstr("\xef\xbf\xbd"));
}

TEST(Generate, IsCancelledBetweenTokens) {
  const Model model = model_with_tokenizer();
  const std::vector<std::int32_t> script = encode(model, "one two three four five six");
  std::vector<std::int64_t> seen;
  GenerateOptions options;
  options.chunk = 1;
  options.progress = [&](std::int64_t fed) {
    seen.push_back(fed);
    return fed < 5;
  };
  const Outcome outcome = run(model, ScriptedExecutor(script), options);
  EXPECT_EQ(outcome.generation.finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(outcome.generation.ids.size(), 2U);  // ids 4 and 5 of the sequence
  EXPECT_THAT(seen, ElementsAre(1, 2, 3, 4, 5));
  EXPECT_EQ(outcome.shown, model.tokenizer->decode(outcome.generation.ids, true).value());
}

TEST(Generate, IsCancelledWithinThePrompt) {
  GenerateOptions options;
  options.chunk = 1;
  options.progress = [](std::int64_t fed) { return fed < 2; };
  const Outcome outcome = run({}, ScriptedExecutor({10}), options);
  EXPECT_EQ(outcome.generation.finish_reason, FinishReason::kCancelled);
  EXPECT_TRUE(outcome.generation.ids.empty());
}

TEST(Generate, IsCancelledByWhoeverShowsTheText) {
  const Model model = model_with_tokenizer();
  const ScriptedExecutor executor(encode(model, "one two three four"));
  const std::vector<std::int32_t> prompt = {5};
  const auto result = generate(model, executor, prompt, {}, [](std::string_view) { return false; });
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result.value().finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(executor.forwards.size(), 1U);
}

std::string error_of(const Model& model, const ScriptedExecutor& executor,
                     const std::vector<std::int32_t>& prompt, const GenerateOptions& options) {
  const auto result = generate(model, executor, prompt, options, {});
  return result.ok() ? "" : result.error().message;
}

TEST(Generate, SaysWhatIsWrong) {
  const Model model = model_with_tokenizer();
  const ScriptedExecutor good({10, 11, 12});
  EXPECT_THAT(error_of(model, good, {}, {}), HasSubstr("no tokens"));
  EXPECT_THAT(error_of(model, good, {5}, {.max_tokens = -1}), HasSubstr("max-tokens is -1"));
  EXPECT_THAT(error_of(model, good, {5}, {.stop_texts = {""}}), HasSubstr("empty"));
  EXPECT_THAT(error_of({}, good, {5}, {.stop_texts = {"x"}}), HasSubstr("tokenizer"));
  EXPECT_THAT(error_of(model, good, {5}, {.sampler = {.temperature = std::nan("")}}),
              HasSubstr("temperature is nan"));
  EXPECT_TRUE(good.forwards.empty());

  ScriptedExecutor failing({10, 11, 12});
  failing.failure = Error{ErrorCode::kInternal, "the machine is on fire"};
  failing.failing_forward = 2;
  EXPECT_EQ(error_of(model, failing, {5}, {}), "the machine is on fire");

  ScriptedExecutor nan({10, 11, 12});
  nan.nan_step = 1;
  EXPECT_THAT(error_of(model, nan, {5}, {}), HasSubstr("the logit of id 7 is nan"));
}

TEST(FinishReason, HasTheNamesThatTheProgramPrints) {
  EXPECT_EQ(to_string(FinishReason::kStop), "stop");
  EXPECT_EQ(to_string(FinishReason::kStopText), "stop_text");
  EXPECT_EQ(to_string(FinishReason::kLength), "length");
  EXPECT_EQ(to_string(FinishReason::kCancelled), "cancelled");
}

}  // namespace
}  // namespace plumb
