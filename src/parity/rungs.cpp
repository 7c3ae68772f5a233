// Rows 1, 2, 3 and 6 (token ids), 2 and 5 (the rendered prompt), 7 (stop set), 8 and 10 (sampling) of docs/causes.md.
#include "parity/rungs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

#include "engine/sampler.h"
#include "engine/tokenizer_file.h"
#include "parity/chat_prompt.h"

namespace plumb {
namespace {

Finding finding(std::string stage, std::string row, std::string cause, FieldValue expected,
                FieldValue found) {
  Finding result;
  result.stage = std::move(stage);
  result.row = row;
  result.cause_row = std::move(row);
  result.cause = std::move(cause);
  result.expected = std::move(expected);
  result.found = std::move(found);
  result.stages = {result.stage};
  return result;
}

RungResult unseen(const char* rung, std::string why) {
  return {{rung, RungVerdict::kNotObserved, std::move(why)}, {}};
}

RungResult right_rung(const char* rung, std::string why) {
  return {{rung, RungVerdict::kOk, std::move(why)}, {}};
}

RungResult wrong(const char* rung, Finding found) {
  return {{rung, RungVerdict::kFault, found.cause}, {std::move(found)}};
}

// Templates trim what users say.
std::string trimmed(const std::string& text) {
  constexpr std::string_view kBlank = " \t\r\n";
  const auto first = text.find_first_not_of(kBlank);
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

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

RungResult check_prompt(const Model& model, const TraceManifest& manifest) {
  constexpr const char* kRung = "prompt";
  if (!manifest.prompt && !manifest.rendered) return unseen(kRung, "the trace has no prompt");
  if (!manifest.rendered)
    return unseen(kRung, "the trace says of no chat template: the ids are judged against the prompt as it is");
  const std::string& rendered = *manifest.rendered;
  if (manifest.prompt) {
    const std::string said = trimmed(*manifest.prompt);
    if (rendered.find(said) == std::string::npos)
      return wrong(kRung, finding("prompt", "5", "the rendered prompt does not hold the prompt's words",
                                  std::int64_t{1}, std::int64_t{0}));
  }
  if (model.tokenizer != nullptr) {
    const auto ids = model.tokenizer->encode(rendered, {.add_special = false, .parse_special = true});
    if (!ids.ok()) return unseen(kRung, "the rendered prompt is not valid UTF-8");
    const auto& list = ids.value();
    if (list.size() > 1 && list[0] == list[1] && model.tokenizer->is_special(list[0]))
      return wrong(kRung, finding("prompt", "2", "the rendered prompt begins with the same special token twice",
                                  std::int64_t{1}, std::int64_t{2}));
  }
  const auto source = load_chat_template(model.path);
  if (!source.ok()) return unseen(kRung, "the checkpoint's chat template could not be read: " + source.error().message);
  const TemplateConstants constants = read_template(source.value());
  if (const auto fault = judge_rendered(constants, rendered, trimmed(manifest.prompt.value_or(""))))
    return wrong(kRung, finding("prompt", "5", fault->cause, fault->expected, std::monostate{}));
  std::string why = manifest.prompt ? "the rendered prompt holds the prompt's words" : "the trace has a rendered prompt";
  if (!constants.answer.empty()) why += " and begins an answer as the checkpoint's chat template does";
  if (!constants.system_header.empty()) why += ", and has a system text";
  return unseen(kRung, why + "; whether the rest is what the template says was not observed: a trace does not hold the messages");
}

namespace {

// The text with a space more or less before it or behind each special token, as `ids` has them, where that gives the ids seen.
bool differs_by_spaces(const Tokenizer& tokenizer, const std::string& text, bool add_special, const std::vector<std::int32_t>& ids,
                       const std::vector<std::int32_t>& seen) {
  std::set<std::string> specials;
  for (const std::int32_t id : ids) {
    const auto word = tokenizer.is_special(id) ? tokenizer.decode(std::span(&id, 1), false) : Result<std::string>(std::string());
    if (word.ok() && !word.value().empty() && text.find(word.value()) != std::string::npos) specials.insert(word.value());
  }
  std::vector<std::string> others{" " + text};
  if (text.starts_with(' ')) others.push_back(text.substr(1));
  for (const bool more : {true, false}) {
    std::string other = text;
    for (const std::string& word : specials) {
      for (std::size_t at = other.find(word); at != std::string::npos; at = other.find(word, at + word.size())) {
        const std::size_t behind = at + word.size();
        if (more && behind < other.size()) other.insert(behind, 1, ' ');
        if (!more && behind < other.size() && other[behind] == ' ') other.erase(behind, 1);
      }
    }
    others.push_back(std::move(other));
  }
  return std::ranges::any_of(others, [&](const std::string& other) {
    const auto found = tokenizer.encode(other, {.add_special = add_special, .parse_special = true});
    return other != text && found.ok() && found.value() == seen;
  });
}

}  // namespace

RungResult check_token_ids(const Model& model, const TraceManifest& manifest) {
  constexpr const char* kRung = "token ids";
  if (!manifest.prompt && !manifest.rendered) return unseen(kRung, "the trace has no prompt");
  if (model.tokenizer == nullptr) return unseen(kRung, "the checkpoint has no tokenizer");
  const std::string& text = manifest.rendered ? *manifest.rendered : *manifest.prompt;
  std::vector<std::vector<std::int32_t>> right;
  for (const bool parse : {true, false}) {
    const auto ids = model.tokenizer->encode(
        text, {.add_special = !manifest.rendered.has_value(), .parse_special = parse});
    if (ids.ok()) right.push_back(ids.value());
  }
  if (right.empty()) return unseen(kRung, "the prompt is not valid UTF-8");
  const auto& seen = manifest.token_ids;
  if (std::find(right.begin(), right.end(), seen) != right.end())
    return right_rung(kRung, fmt::format("the {} ids are those that the checkpoint's tokenizer gives for the {}", seen.size(),
                                         manifest.rendered ? "rendered prompt" : "prompt"));
  const auto& expected = right.front();
  const auto without_first = [](const std::vector<std::int32_t>& ids) {
    return std::vector<std::int32_t>(ids.begin() + (ids.empty() ? 0 : 1), ids.end());
  };
  const auto count = [](const std::vector<std::int32_t>& ids) {
    return static_cast<std::int64_t>(ids.size());
  };
  if (seen == without_first(expected)) {
    return wrong(kRung, finding("token_ids", "1", "the beginning-of-sequence token is missing",
                                std::int64_t{expected[0]}, std::monostate{}));
  }
  const bool twice = !seen.empty() && !expected.empty() && (seen.front() == expected.front() || model.tokenizer->is_special(seen.front()));
  if (twice && without_first(seen) == expected) {
    return wrong(kRung, finding("token_ids", "2", "the beginning-of-sequence token is there twice",
                                count(expected), count(seen)));
  }
  const bool prefix =
      seen.size() < expected.size() && std::equal(seen.begin(), seen.end(), expected.begin());
  const bool suffix =
      seen.size() < expected.size() && std::equal(seen.rbegin(), seen.rend(), expected.rbegin());
  if (prefix || suffix) {
    return wrong(kRung, finding("token_ids", "6", "the prompt was cut", count(expected), count(seen)));
  }
  if (differs_by_spaces(*model.tokenizer, text, !manifest.rendered.has_value(), expected, seen)) {
    Finding spaces = finding("token_ids", "4", "a space is added before the text or behind a special token, or lost there", count(expected),
                             count(seen));
    spaces.also = {"3"};
    return wrong(kRung, std::move(spaces));
  }
  const auto differ = std::mismatch(seen.begin(), seen.end(), expected.begin(), expected.end());
  const auto place = static_cast<std::int64_t>(differ.first - seen.begin());
  Finding result = finding(
      "token_ids", "3",
      "the text falls into other tokens, from token " + std::to_string(place) + " on",
      differ.second != expected.end() ? FieldValue(std::int64_t{*differ.second}) : FieldValue(),
      differ.first != seen.end() ? FieldValue(std::int64_t{*differ.first}) : FieldValue());
  result.also = {"4", "5"};
  return wrong(kRung, std::move(result));
}

RungResult check_positions(const Captured& suspect) {
  constexpr const char* kRung = "positions";
  std::int64_t next = 0;
  std::int64_t seen = 0;
  std::optional<double> offset;
  for (std::size_t s = 0; s < suspect.steps().size(); ++s) {
    const TraceStep& step = suspect.steps()[s];
    if (step.first != next)
      return unseen(kRung, fmt::format("pass {} begins at position {}, the one before ends at {}: what lies between is not in the "
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
      Finding result = finding("positions", "36", "the positions do not follow each other as the tokens do",
                               step.first + t, found);
      result.evidence.residual_before = std::abs(found - right);
      return wrong(kRung, std::move(result));
    }
    seen += step.count;
  }
  if (!offset) return unseen(kRung, "no positions were captured");
  if (*offset == 0) return right_rung(kRung, fmt::format("the {} positions captured are their tokens' own", seen));
  Finding result = finding("positions", "36", "positions are shifted", std::int64_t{0},
                           static_cast<std::int64_t>(*offset));
  result.field = "rope.position_offset";
  return wrong(kRung, std::move(result));
}

RungResult check_sampler(const Captured& suspect, const TraceManifest& manifest, const std::vector<Finding>& findings) {
  constexpr const char* kRung = "sampler";
  const bool unreadable = std::any_of(findings.begin(), findings.end(), [](const Finding& f) {
    return f.field == "report.bytes" && f.stage == "logits";
  });
  if (unreadable) return unseen(kRung, "the bytes of the logits are read as another type");
  auto steps = choices(suspect, manifest);
  if (steps.empty())
    return unseen(kRung, "no step has both logits and the token chosen from them");
  // What an engine takes for the largest where there are none is no choice.
  std::erase_if(steps, [](const Step& step) { return std::ranges::any_of(step.logits, [](double x) { return std::isnan(x); }); });
  if (steps.empty()) return unseen(kRung, "the logits are no numbers");
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
    return wrong(kRung, finding("sampler", "12", "a drafted token is accepted that is not the model's own choice",
                                std::int64_t{argmax(draft->logits)}, std::int64_t{draft->token}));
  }
  if (own_choices && draft == steps.end())
    return right_rung(kRung, fmt::format("{} of {} tokens generated were seen beside their logits, and each is the largest",
                                         steps.size(), manifest.generated.size()));
  if (const auto penalty = penalty_that_explains(steps)) {
    return wrong(kRung, finding("sampler", "10", "ids that have been seen are penalised before the choice",
                                1.0, *penalty));
  }
  const double temperature = most_likely_temperature(steps);
  return wrong(kRung, finding("sampler", "8",
                              "tokens are drawn, not the largest logit chosen; the logits are another matter",
                              0.0, std::round(temperature * 100) / 100));
}

RungResult check_stop(const Model& model, const TraceManifest& manifest) {
  constexpr const char* kRung = "stop";
  if (!manifest.stop_ids) return unseen(kRung, "the trace does not say the engine's stop ids");
  if (manifest.generated.empty()) return unseen(kRung, "nothing was generated");
  for (std::size_t i = 0; i + 1 < manifest.generated.size(); ++i) {
    const std::int32_t id = manifest.generated[i];
    const auto has = [&](const std::vector<std::int32_t>& ids) {
      return std::find(ids.begin(), ids.end(), id) != ids.end();
    };
    if (!has(model.stop_ids) || has(*manifest.stop_ids)) continue;
    return wrong(kRung, finding("stop", "7", "generation goes on past a stop id that the suspect's set lacks",
                                std::int64_t{id}, std::monostate{}));
  }
  return right_rung(kRung, "no token generated before the last is a stop id that the engine's set lacks");
}

}  // namespace plumb
