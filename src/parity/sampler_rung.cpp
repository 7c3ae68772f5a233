// Rows 8, 10 and 12 of docs/causes.md: the tokens chosen against the suspect's own scores, and against what the trace says of its sampler.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "parity/choice_rows.h"
#include "parity/declared_sampler.h"
#include "parity/drawn_choices.h"
#include "parity/rung_results.h"
#include "parity/rungs.h"

namespace plumb {
namespace {

constexpr const char* kRung = "sampler";

// How far the token's score is below the largest; infinite where it is not among the scores.
double below_largest(const Choice& choice, const std::vector<double>& scores) {
  const double most = *std::ranges::max_element(scores);
  return choice.at < 0 ? std::numeric_limits<double>::infinity() : most - scores[static_cast<std::size_t>(choice.at)];
}

bool is_largest(const Choice& choice, const std::vector<double>& scores) {
  return below_largest(choice, scores) <= choice.slack();
}

std::int64_t not_largest(const Choices& choices, const Penalty& penalty) {
  return std::ranges::count_if(choices.list, [&](const Choice& choice) {
    return !choice.drafted && !is_largest(choice, penalised(choices, choice, penalty));
  });
}

std::string words_of(const Penalty& penalty) {
  std::string words;
  const auto add = [&](const char* name, double amount, double neutral) {
    if (amount != neutral) words += fmt::format("{}{} {:.4g}", words.empty() ? "" : " and ", name, amount);
  };
  add("a repetition penalty of", penalty.repetition, 1);
  add("a presence penalty of", penalty.presence, 0);
  add("a frequency penalty of", penalty.frequency, 0);
  const SeenIn where = penalty.repetition != 1 ? penalty.repeated : penalty.counted;
  if (penalty.window) return words + fmt::format(" over the last {} tokens", *penalty.window);
  return words + (where == SeenIn::kAll ? " over prompt and answer" : " over the answer alone");
}

double amount_of(const Penalty& penalty) {
  return penalty.repetition != 1 ? penalty.repetition : penalty.presence != 0 ? penalty.presence : penalty.frequency;
}

// The amount that the trace names of what is found; the neutral one where it names none.
double named_amount(const Penalty& named, const Penalty& found) {
  return found.repetition != 1 ? named.repetition : found.presence != 0 ? named.presence : named.frequency;
}

Finding penalised_finding(const Penalty& named, const Penalty& found, std::int64_t deviations) {
  constexpr std::int64_t kFew = 3;  // that many may be drawn
  std::string cause = "ids that have been seen are penalised before the choice: " + words_of(found);
  if (named.any()) cause += ", where the trace names " + words_of(named);
  Finding result = rung_finding("sampler", "10", std::move(cause), named_amount(named, found), amount_of(found));
  if (deviations < kFew && !named.any()) result.also = {"8"};
  return result;
}

// One id that is chosen again and again where it is not the largest, or never although it is, and every other choice as the largest: a bias.
std::optional<Finding> biased(const Choices& choices) {
  constexpr std::int64_t kLeast = 3;
  std::set<std::int32_t> chosen;
  std::set<std::int32_t> avoided;
  std::int64_t events = 0;
  double least = 0;                                            // the bias is at least this
  bool second = true;                                          // whether the next largest was taken each time
  for (const Choice& choice : choices.list) {
    if (choice.drafted || is_largest(choice, choice.scores)) continue;
    ++events;
    chosen.insert(choice.token);
    const auto most = static_cast<std::size_t>(std::ranges::max_element(choice.scores) - choice.scores.begin());
    avoided.insert(choice.id(most));
    least = std::max(least, below_largest(choice, choice.scores));
    std::vector<double> others = choice.scores;
    others[most] = -std::numeric_limits<double>::infinity();
    second = second && choice.at >= 0 && is_largest(choice, others);
  }
  if (events >= 2 && avoided.size() == 1 && second)
    return rung_finding("sampler", "10", fmt::format("id {} is never chosen, although its logit is the largest: it has a bias", *avoided.begin()), 0.0,
                        std::string("never"));
  if (events < kLeast || chosen.size() != 1 || !std::isfinite(least)) return std::nullopt;
  const std::int32_t id = *chosen.begin();
  // Where another was chosen, the bias did not suffice.
  for (const Choice& choice : choices.list) {
    if (choice.drafted || choice.token == id) continue;
    for (std::size_t i = 0; i < choice.scores.size(); ++i) {
      if (choice.id(i) == id && *std::ranges::max_element(choice.scores) - choice.scores[i] < least) return std::nullopt;
    }
  }
  return rung_finding("sampler", "10", fmt::format("id {} is chosen where its logit is not the largest: it has a bias of at least {:.3g}", id, least), 0.0,
                      std::ceil(least * 1000) / 1000);
}

RungResult faulty(std::vector<Finding> findings) {
  return {{kRung, RungVerdict::kFault, findings.front().cause}, std::move(findings)};
}

// Row 12: every token but a drafted one is the model's own choice.
std::optional<Finding> drafted_wrong(const Choices& choices) {
  const auto own = [](const Choice& choice) { return is_largest(choice, choice.scores); };
  const bool chooses = std::ranges::any_of(choices.list, [](const Choice& choice) { return !choice.drafted; });
  const bool own_choices = std::ranges::all_of(choices.list, [&](const Choice& choice) { return choice.drafted || own(choice); });
  const auto draft = std::ranges::find_if(choices.list, [&](const Choice& choice) { return choice.drafted && !own(choice); });
  if (draft == choices.list.end() || !own_choices || !chooses) return std::nullopt;
  const auto most = static_cast<std::size_t>(std::ranges::max_element(draft->scores) - draft->scores.begin());
  return rung_finding("sampler", "12", "a drafted token is accepted that is not the model's own choice", std::int64_t{draft->id(most)},
                      std::int64_t{draft->token});
}

// The largest score is said to be chosen, or nothing is said.
RungResult judge_greedy(const Choices& choices, const DeclaredSampler& sampler, std::size_t generated) {
  const Penalty& named = sampler.penalty;
  const auto seen = fmt::format("{} of {} tokens generated were seen beside their logits, and each is the largest", choices.list.size(), generated);
  const std::int64_t raw = not_largest(choices, {});
  const bool penalises = named.any() || !named.bias.empty();
  const std::int64_t deviations = penalises ? not_largest(choices, named) : raw;
  if (deviations == 0) return right_rung(kRung, penalises ? seen + " under the penalties that the trace names" : seen);
  if (raw == 0)
    return wrong_rung(kRung, rung_finding("sampler", "10", "the penalty that the trace names is not applied: every token is the largest logit as it is",
                                          amount_of(named), named.repetition != 1 ? 1.0 : 0.0));
  if (const auto penalty = penalty_that_explains(choices)) return wrong_rung(kRung, penalised_finding(named, *penalty, raw));
  if (auto bias = biased(choices)) return wrong_rung(kRung, std::move(*bias));
  std::vector<Finding> findings;
  const auto penalty = likely_penalty(choices);
  if (penalty) findings.push_back(penalised_finding(named, *penalty, raw));
  const double temperature = likely_temperature(choices, penalty.value_or(Penalty{}));
  findings.push_back(rung_finding("sampler", "8", "tokens are drawn, not the largest logit chosen; the logits are another matter", 0.0,
                                  std::round(temperature * 100) / 100));
  return faulty(std::move(findings));
}

// Tokens are said to be drawn.
RungResult judge_drawn(const Choices& choices, const DeclaredSampler& sampler, std::size_t generated) {
  const Penalty& named = sampler.penalty;
  const std::int64_t lower = not_largest(choices, {});
  std::vector<Finding> findings;
  if (auto cut = cut_not_applied(choices, sampler, named)) findings.push_back(std::move(*cut));
  if (!findings.empty()) return faulty(std::move(findings));
  Penalty applied = named;
  if (const auto other = likely_penalty(choices, named)) {
    applied = *other;
    findings.push_back(other->any()
                           ? penalised_finding(named, *other, lower)
                           : rung_finding("sampler", "10", "the penalty that the trace names is not applied", amount_of(named), named.repetition != 1 ? 1.0 : 0.0));
  }
  if (auto warmth = other_temperature(choices, sampler, applied)) findings.push_back(std::move(*warmth));
  if (!findings.empty()) return faulty(std::move(findings));
  return right_rung(kRung, fmt::format("{} of {} tokens generated were seen beside their logits, drawn as the trace's sampler may draw them; {} of them "
                                       "{} not the largest logit",
                                       choices.list.size(), generated, lower, lower == 1 ? "is" : "are"));
}

}  // namespace

RungResult check_sampler(const Captured& suspect, const TraceManifest& manifest, const std::vector<Finding>& findings, std::int64_t vocab,
                          const OwnLogits& own) {
  const bool unreadable = std::ranges::any_of(findings, [](const Finding& f) { return f.field == "report.bytes"; });
  if (unreadable) return unseen_rung(kRung, "the bytes of the logits are read as another type");
  const Choices choices = choices_of(suspect, manifest, vocab, own);
  if (choices.list.empty()) return unseen_rung(kRung, "no step has both logits and the token chosen from them");
  if (auto draft = drafted_wrong(choices)) return wrong_rung(kRung, std::move(*draft));
  const DeclaredSampler sampler = declared_sampler(manifest);
  if (sampler.more && not_largest(choices, {}) > 0)
    return unseen_rung(kRung, "the trace names a sampler with more to it than is modelled: temperature, top k, top p, min p, penalties and biases");
  const bool signs = std::ranges::all_of(choices.list, [](const Choice& choice) { return choice.signs; });
  if (sampler.penalty.repetition != 1 && !signs && not_largest(choices, {}) > 0)
    return unseen_rung(kRung, "the trace names a repetition penalty and shows no logits: it asks for their signs");
  return sampler.temperature.value_or(0) > 0 ? judge_drawn(choices, sampler, manifest.generated.size())
                                             : judge_greedy(choices, sampler, manifest.generated.size());
}

}  // namespace plumb
