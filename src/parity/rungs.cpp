// Rows 36 (positions), 7 (stop set), 8, 10 and 12 (sampling) of docs/causes.md.
#include "parity/rungs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

#include "engine/sampler.h"
#include "parity/rung_results.h"

namespace plumb {
namespace {

// log P(token) under softmax(logits / temperature).
double log_probability(std::span<const double> logits, std::int32_t token, double temperature) {
  std::vector<double> scaled(logits.begin(), logits.end());
  for (double& value : scaled)
    value /= temperature;
  return log_softmax(scaled)[static_cast<std::size_t>(token)];
}

struct Step {
  std::vector<double> logits;  // of the row before it
  std::int32_t token;
  std::set<std::int32_t> seen;  // ids before it
  bool drafted = false;         // it was fed in the pass whose logits are its own
  double rounding = 0;          // of the logits, relative
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
    const std::int64_t rows = logits ? logits->values.tokens() : 0;
    // Of several generated tokens in one pass each but the first was drafted, and verified by the row before it.
    const std::int64_t drafts = std::min({suspect.steps()[s].count - 1, place, rows - 1});
    for (std::int64_t back = std::max<std::int64_t>(drafts, 0); back >= 0; --back) {
      const std::int32_t token = manifest.generated[static_cast<std::size_t>(place - back)];
      if (rows > 0 && token < logits->values.width()) {
        const auto row = logits->values.row(rows - 1 - back);
        steps.push_back({{row.begin(), row.end()}, token, seen, back > 0, logits->dtype == DType::kF32 ? 1e-5 : 2e-2});
      }
      seen.insert(token);
    }
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

RungResult check_positions(const Captured& suspect) {
  constexpr const char* kRung = "positions";
  std::int64_t next = 0;
  std::int64_t seen = 0;
  std::optional<double> offset;
  for (std::size_t s = 0; s < suspect.steps().size(); ++s) {
    const TraceStep& step = suspect.steps()[s];
    if (step.first != next)
      return unseen_rung(kRung, fmt::format("pass {} begins at position {}, the one before ends at {}: what lies between is not in the "
                                       "trace",
                                       s, step.first, next));
    next += step.count;
    const auto held = suspect.value(s, "positions");
    if (!held || std::ssize(held->values.data) != step.count) continue;
    for (std::int64_t t = 0; t < step.count; ++t) {
      const double found = held->values.data[static_cast<std::size_t>(t)];
      const auto right = static_cast<double>(step.first + t);
      if (!offset) offset = found - right;
      if (found - right == *offset && std::abs(*offset) < 1e9) continue;
      Finding result = rung_finding("positions", "36", "the positions do not follow each other as the tokens do",
                               step.first + t, found);
      result.evidence.residual_before = std::abs(found - right);
      return wrong_rung(kRung, std::move(result));
    }
    seen += step.count;
  }
  if (!offset) return unseen_rung(kRung, "no positions were captured");
  if (*offset == 0) return right_rung(kRung, fmt::format("the {} positions captured are their tokens' own", seen));
  Finding result = rung_finding("positions", "36", "positions are shifted", std::int64_t{0},
                           static_cast<std::int64_t>(*offset));
  result.field = "rope.position_offset";
  return wrong_rung(kRung, std::move(result));
}

RungResult check_sampler(const Captured& suspect, const TraceManifest& manifest, const std::vector<Finding>& findings) {
  constexpr const char* kRung = "sampler";
  const bool unreadable = std::any_of(findings.begin(), findings.end(), [](const Finding& f) {
    return f.field == "report.bytes" && f.stage == "logits";
  });
  if (unreadable) return unseen_rung(kRung, "the bytes of the logits are read as another type");
  auto steps = choices(suspect, manifest);
  if (steps.empty())
    return unseen_rung(kRung, "no step has both logits and the token chosen from them");
  // What an engine takes for the largest where there are none is no choice.
  std::erase_if(steps, [](const Step& step) { return std::ranges::any_of(step.logits, [](double x) { return std::isnan(x); }); });
  if (steps.empty()) return unseen_rung(kRung, "the logits are no numbers");
  // A draft within the logits' rounding of the largest is a near tie: other kernels may have chosen it.
  const auto largest = [](const Step& step) {
    const double most = step.logits[static_cast<std::size_t>(argmax(step.logits))];
    const double own = step.logits[static_cast<std::size_t>(step.token)];
    return own == most || (step.drafted && most - own <= step.rounding * std::abs(most));
  };
  const bool own_choices = std::ranges::all_of(steps, [&](const Step& step) { return step.drafted || largest(step); });
  const auto draft = std::ranges::find_if(steps, [&](const Step& step) { return step.drafted && !largest(step); });
  const bool chooses = std::ranges::any_of(steps, [](const Step& step) { return !step.drafted; });
  if (draft != steps.end() && own_choices && chooses) {
    return wrong_rung(kRung, rung_finding("sampler", "12", "a drafted token is accepted that is not the model's own choice",
                                std::int64_t{argmax(draft->logits)}, std::int64_t{draft->token}));
  }
  if (own_choices && draft == steps.end())
    return right_rung(kRung, fmt::format("{} of {} tokens generated were seen beside their logits, and each is the largest",
                                         steps.size(), manifest.generated.size()));
  if (const auto penalty = penalty_that_explains(steps)) {
    return wrong_rung(kRung, rung_finding("sampler", "10", "ids that have been seen are penalised before the choice",
                                1.0, *penalty));
  }
  const double temperature = most_likely_temperature(steps);
  return wrong_rung(kRung, rung_finding("sampler", "8",
                              "tokens are drawn, not the largest logit chosen; the logits are another matter",
                              0.0, std::round(temperature * 100) / 100));
}

RungResult check_stop(const Model& model, const TraceManifest& manifest) {
  constexpr const char* kRung = "stop";
  if (!manifest.stop_ids) return unseen_rung(kRung, "the trace does not say the engine's stop ids");
  if (manifest.generated.empty()) return unseen_rung(kRung, "nothing was generated");
  for (std::size_t i = 0; i + 1 < manifest.generated.size(); ++i) {
    const std::int32_t id = manifest.generated[i];
    const auto has = [&](const std::vector<std::int32_t>& ids) {
      return std::find(ids.begin(), ids.end(), id) != ids.end();
    };
    if (!has(model.stop_ids) || has(*manifest.stop_ids)) continue;
    return wrong_rung(kRung, rung_finding("stop", "7", "generation goes on past a stop id that the suspect's set lacks",
                                std::int64_t{id}, std::monostate{}));
  }
  return right_rung(kRung, "no token generated before the last is a stop id that the engine's set lacks");
}

}  // namespace plumb
