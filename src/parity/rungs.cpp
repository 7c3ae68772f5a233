// Rows 1, 2 and 6 (token ids), 7 (stop set), 8 and 10 (sampling) of docs/causes.md.
#include "parity/rungs.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "engine/sampler.h"

namespace plumb {
namespace {

Finding finding(std::string stage, std::string row, std::string cause, FieldValue expected,
                FieldValue found) {
  Finding result;
  result.stage = std::move(stage);
  result.row = std::move(row);
  result.cause = std::move(cause);
  result.expected = std::move(expected);
  result.found = std::move(found);
  result.stages = {result.stage};
  return result;
}

// log P(token) under softmax(logits / temperature).
double log_probability(std::span<const double> logits, std::int32_t token, double temperature) {
  std::vector<double> scaled(logits.begin(), logits.end());
  for (double& value : scaled)
    value /= temperature;
  return log_softmax(scaled)[static_cast<std::size_t>(token)];
}

struct Step {
  std::vector<double> logits;  // of the last row
  std::int32_t token;
  std::set<std::int32_t> seen;  // ids before it
};

std::vector<Step> choices(const Captured& suspect, const TraceManifest& manifest) {
  std::vector<Step> steps;
  std::set<std::int32_t> seen(manifest.token_ids.begin(), manifest.token_ids.end());
  // A prompt may come in several steps (mlx-lm feeds its last token alone): the first choice is made at its end.
  std::int64_t place = -static_cast<std::int64_t>(manifest.token_ids.size());
  for (std::size_t s = 0; s < suspect.steps().size(); ++s) {
    place += suspect.steps()[s].count;
    if (place < 0 || std::cmp_greater_equal(place, manifest.generated.size())) continue;
    const auto logits = suspect.value(s, "logits");
    const std::int32_t token = manifest.generated[static_cast<std::size_t>(place)];
    if (logits && logits->values.tokens() > 0 && token < logits->values.width()) {
      const auto row = logits->values.row(logits->values.tokens() - 1);
      steps.push_back({{row.begin(), row.end()}, token, seen});
    }
    seen.insert(token);
  }
  return steps;
}

// The multiplicative penalty under which every token is the largest logit (transformers' RepetitionPenaltyLogitsProcessor).
std::optional<double> penalty_that_explains(const std::vector<Step>& steps) {
  for (double penalty = 1.05; penalty < 2.01; penalty += 0.05) {
    const bool all = std::all_of(steps.begin(), steps.end(), [&](const Step& step) {
      std::vector<double> logits = step.logits;
      for (const std::int32_t id : step.seen) {
        double& value = logits[static_cast<std::size_t>(id)];
        value = value > 0 ? value / penalty : value * penalty;
      }
      return argmax(logits) == step.token;
    });
    if (all) return penalty;
  }
  return std::nullopt;
}

double most_likely_temperature(const std::vector<Step>& steps) {
  double best = 1;
  double most = -std::numeric_limits<double>::infinity();
  for (double temperature = 0.1; temperature < 3; temperature *= 1.05) {
    double sum = 0;
    for (const Step& step : steps)
      sum += log_probability(step.logits, step.token, temperature);
    if (sum <= most) continue;
    most = sum;
    best = temperature;
  }
  return best;
}

}  // namespace

std::vector<Finding> check_token_ids(const Model& model, const TraceManifest& manifest,
                                     std::vector<std::string>& not_observed) {
  if (!manifest.prompt || model.tokenizer == nullptr) {
    not_observed.push_back(manifest.prompt ? "token ids: the checkpoint has no tokenizer"
                                           : "token ids: the trace has no prompt");
    return {};
  }
  const std::string& text = manifest.rendered ? *manifest.rendered : *manifest.prompt;
  std::vector<std::vector<std::int32_t>> right;
  for (const bool parse : {true, false}) {
    const auto ids = model.tokenizer->encode(
        text, {.add_special = !manifest.rendered.has_value(), .parse_special = parse});
    if (ids.ok()) right.push_back(ids.value());
  }
  if (right.empty()) {
    not_observed.push_back("token ids: the prompt is not valid UTF-8");
    return {};
  }
  const auto& seen = manifest.token_ids;
  if (std::find(right.begin(), right.end(), seen) != right.end()) return {};
  const auto& expected = right.front();
  const auto without_first = [](const std::vector<std::int32_t>& ids) {
    return std::vector<std::int32_t>(ids.begin() + (ids.empty() ? 0 : 1), ids.end());
  };
  const auto count = [](const std::vector<std::int32_t>& ids) {
    return static_cast<std::int64_t>(ids.size());
  };
  if (seen == without_first(expected)) {
    return {finding("token_ids", "1", "the beginning-of-sequence token is missing",
                    std::int64_t{expected[0]}, std::monostate{})};
  }
  if (without_first(seen) == expected && !seen.empty()) {
    return {finding("token_ids", "2", "the beginning-of-sequence token is there twice",
                    count(expected), count(seen))};
  }
  const bool prefix =
      seen.size() < expected.size() && std::equal(seen.begin(), seen.end(), expected.begin());
  const bool suffix =
      seen.size() < expected.size() && std::equal(seen.rbegin(), seen.rend(), expected.rbegin());
  if (prefix || suffix) {
    return {finding("token_ids", "6", "the prompt was cut", count(expected), count(seen))};
  }
  const auto differ = std::mismatch(seen.begin(), seen.end(), expected.begin(), expected.end());
  const auto place = static_cast<std::int64_t>(differ.first - seen.begin());
  Finding result = finding(
      "token_ids", "3",
      "the text falls into other tokens, from token " + std::to_string(place) + " on",
      differ.second != expected.end() ? FieldValue(std::int64_t{*differ.second}) : FieldValue(),
      differ.first != seen.end() ? FieldValue(std::int64_t{*differ.first}) : FieldValue());
  result.also = {"4", "5"};
  return {result};
}

std::vector<Finding> check_sampler(const Captured& suspect, const TraceManifest& manifest,
                                   std::vector<std::string>& not_observed) {
  const auto steps = choices(suspect, manifest);
  if (steps.empty()) {
    not_observed.push_back(
        "the choice of tokens: no step has both logits and the token chosen from them");
    return {};
  }
  const auto greedy = std::all_of(steps.begin(), steps.end(), [](const Step& step) {
    return step.logits[static_cast<std::size_t>(step.token)] ==
           step.logits[static_cast<std::size_t>(argmax(step.logits))];
  });
  if (greedy) return {};
  if (const auto penalty = penalty_that_explains(steps)) {
    return {finding("sampler", "10", "ids that have been seen are penalised before the choice", 1.0,
                    *penalty)};
  }
  const double temperature = most_likely_temperature(steps);
  return {finding("sampler", "8",
                  "tokens are drawn, not the largest logit chosen; the logits are another matter",
                  0.0, std::round(temperature * 100) / 100)};
}

std::vector<Finding> check_stop(const Model& model, const TraceManifest& manifest,
                                std::vector<std::string>& not_observed) {
  if (!manifest.stop_ids) {
    not_observed.push_back("the stop: the trace does not say the suspect's stop ids");
    return {};
  }
  for (std::size_t i = 0; i + 1 < manifest.generated.size(); ++i) {
    const std::int32_t id = manifest.generated[i];
    const auto has = [&](const std::vector<std::int32_t>& ids) {
      return std::find(ids.begin(), ids.end(), id) != ids.end();
    };
    if (!has(model.stop_ids) || has(*manifest.stop_ids)) continue;
    return {finding("stop", "7", "generation goes on past a stop id that the suspect's set lacks",
                    std::int64_t{id}, std::monostate{})};
  }
  return {};
}

}  // namespace plumb
