// Row 7 of docs/causes.md: where generation ended, or should have.
#include <fmt/format.h>

#include <algorithm>

#include "engine/stop_text.h"
#include "parity/declared_sampler.h"
#include "parity/rung_results.h"
#include "parity/rungs.h"

namespace plumb {
namespace {

constexpr const char* kRung = "stop";

using Ids = std::vector<std::int32_t>;

bool has(const Ids& ids, std::int32_t id) {
  return std::ranges::find(ids, id) != ids.end();
}

std::string listed(const Ids& ids) {
  return fmt::format("{}", fmt::join(ids, ", "));
}

Finding stop_finding(std::string cause, FieldValue expected, FieldValue found) {
  return rung_finding("stop", "7", std::move(cause), std::move(expected), std::move(found));
}

// How many tokens were generated when one of the texts was there; nothing where none came.
std::optional<std::int64_t> end_by_text(const Tokenizer& tokenizer, const Ids& generated, const std::vector<std::string>& texts) {
  if (texts.empty()) return std::nullopt;
  StopText stop(texts);
  StreamDecoder decoder(tokenizer, true);
  for (std::size_t i = 0; i < generated.size(); ++i) {
    const auto piece = decoder.push(generated[i]);
    if (!piece.ok()) return std::nullopt;
    stop.push(piece.value());
    if (stop.found()) return static_cast<std::int64_t>(i) + 1;
  }
  return std::nullopt;
}

// How many of the tokens generated were not fed, at the end.
std::int64_t tokens_not_fed(const Captured& suspect, const TraceManifest& manifest) {
  std::int64_t left = std::ssize(manifest.token_ids) + std::ssize(manifest.generated);
  for (const TraceStep& step : suspect.steps())
    left -= step.count;
  return left;
}

// Whether the scores are there from which a token behind the last would be chosen.
bool scores_what_follows(const Captured& suspect, const TraceManifest& manifest) {
  if (tokens_not_fed(suspect, manifest) > 0) return false;
  const auto logits = suspect.value(suspect.steps().size() - 1, "logits");
  return logits && logits->values.tokens() >= 1;
}

}  // namespace

RungResult check_stop(const Model& model, const Captured& suspect, const TraceManifest& manifest) {
  const Ids& generated = manifest.generated;
  if (generated.empty()) return unseen_rung(kRung, "nothing was generated");
  const DeclaredSampler sampler = declared_sampler(manifest);
  const std::int64_t count = std::ssize(generated);
  if (sampler.max_tokens && count > *sampler.max_tokens)
    return wrong_rung(kRung, stop_finding("more tokens are generated than the trace's largest number", *sampler.max_tokens, count));
  const auto text_end = model.tokenizer != nullptr ? end_by_text(*model.tokenizer, generated, sampler.stop_texts) : std::nullopt;
  if (text_end && *text_end < count)
    return wrong_rung(kRung, stop_finding("generation goes on past a text at which the trace says that it stops", *text_end, count));
  if (!manifest.stop_ids) return unseen_rung(kRung, "the trace does not say the engine's stop ids");
  if (sampler.ignores_stops) return unseen_rung(kRung, "the trace says that generation goes on past stop ids");
  const Ids& own = *manifest.stop_ids;
  for (std::int64_t i = 0; i + 1 < count; ++i) {
    const std::int32_t id = generated[static_cast<std::size_t>(i)];
    if (has(model.stop_ids, id) && !has(own, id))  // of its own set: it was told to go on
      return wrong_rung(kRung, stop_finding("generation goes on past a stop id that the suspect's set lacks", std::int64_t{id}, std::monostate{}));
  }
  const std::int32_t last = generated.back();
  if (has(own, last) && !has(model.stop_ids, last))
    return wrong_rung(kRung, stop_finding("generation ends at an id that the checkpoint does not name as a stop id", std::monostate{}, std::int64_t{last}));
  const bool ended = has(own, last) || text_end;
  // The last token is seldom fed: without it the trace shows the run to its end all the same.
  if (!ended && sampler.max_tokens && count < *sampler.max_tokens && tokens_not_fed(suspect, manifest) <= 1 && !scores_what_follows(suspect, manifest))
    return wrong_rung(kRung, stop_finding("generation ends before the trace's largest number of tokens, at an id that is no stop id", *sampler.max_tokens, count));
  Ids lacking;
  std::ranges::copy_if(model.stop_ids, std::back_inserter(lacking), [&](std::int32_t id) { return !has(own, id); });
  std::string why = "no token generated before the last is a stop id that the engine's set lacks";
  if (!lacking.empty()) why += "; the engine's set lacks " + listed(lacking) + ", at which it would go on";
  return right_rung(kRung, why);
}

}  // namespace plumb
