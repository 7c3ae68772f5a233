#include "parity/choice_rows.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace plumb {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();

double rounding_of(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF64 ? 1e-5 : dtype == DType::kF16 ? 1e-3 : 8e-3;
}

// Of a pass's last rows: row `back` from the end.
std::optional<Choice> row_of(const Captured& suspect, std::size_t step, std::int64_t back, std::int64_t vocab, const OwnLogits& own) {
  Choice choice;
  if (const auto logits = suspect.value(step, "logits")) {
    const std::int64_t row = logits->values.tokens() - 1 - back;
    if (row < 0 || logits->values.shape.size() != 2) return std::nullopt;
    choice.scores.assign(logits->values.row(row).begin(), logits->values.row(row).end());
    choice.rounding = rounding_of(logits->dtype);
    return choice;
  }
  const auto logprobs = suspect.value(step, "logprobs");
  const auto ids = suspect.value(step, "logprobs.ids");
  if (!logprobs || !ids || logprobs->values.shape != ids->values.shape || logprobs->values.shape.size() != 2) return std::nullopt;
  const std::int64_t row = logprobs->values.tokens() - 1 - back;
  if (row < 0) return std::nullopt;
  double shown = 0;
  for (std::int64_t i = 0; i < logprobs->values.width(); ++i) {
    const double id = ids->values.row(row)[static_cast<std::size_t>(i)];
    const double score = logprobs->values.row(row)[static_cast<std::size_t>(i)];
    if (!(id >= 0) || !(id < static_cast<double>(vocab))) continue;
    choice.ids.push_back(static_cast<std::int32_t>(id));
    choice.scores.push_back(score);
    if (std::isfinite(score)) shown += std::exp(score);
  }
  if (choice.ids.empty()) return std::nullopt;
  choice.rounding = rounding_of(logprobs->dtype);
  choice.unshown = std::max<std::int64_t>(vocab - std::ssize(choice.ids), 0);
  choice.unshown_log = std::log(std::max(1 - shown, 1e-12));
  const auto logits = own(step);
  choice.signs = logits && logits->tokens() > back && logits->width() == vocab;
  if (!choice.signs) return choice;
  const auto ours = logits->row(logits->tokens() - 1 - back);
  std::vector<double> apart;
  for (std::size_t i = 0; i < choice.ids.size(); ++i) {
    if (std::isfinite(choice.scores[i])) apart.push_back(ours[static_cast<std::size_t>(choice.ids[i])] - choice.scores[i]);
  }
  if (apart.empty()) return choice;
  std::ranges::nth_element(apart, apart.begin() + std::ssize(apart) / 2);
  for (double& score : choice.scores)
    score += apart[apart.size() / 2];
  choice.unshown_log += apart[apart.size() / 2];
  return choice;
}

std::map<std::int32_t, int> counted(const Choices& choices, const Choice& choice, SeenIn where, std::optional<std::int64_t> window) {
  std::size_t from = where == SeenIn::kAll ? 0 : std::min(choices.prompt, choice.before);
  if (window && std::cmp_less(*window, choice.before)) from = choice.before - static_cast<std::size_t>(*window);
  else if (window) from = 0;
  std::map<std::int32_t, int> counts;
  for (std::size_t i = from; i < choice.before; ++i)
    ++counts[choices.history[i]];
  return counts;
}

int times(const std::map<std::int32_t, int>& counts, std::int32_t id) {
  const auto found = counts.find(id);
  return found == counts.end() ? 0 : found->second;
}

}  // namespace

double PenaltyAmounts::of(double score, int repeated, int counted) const {
  if (repeated > 0) score = score > 0 ? score / repetition : score * repetition;
  if (counted > 0) score -= presence + frequency * counted;
  return score;
}

double Choice::slack() const {
  double most = 1;
  for (const double score : scores) {
    if (std::isfinite(score)) most = std::max(most, std::abs(score));
  }
  return rounding * most;
}

Choices choices_of(const Captured& suspect, const TraceManifest& manifest, std::int64_t vocab, const OwnLogits& own) {
  Choices choices{.history = manifest.token_ids, .prompt = manifest.token_ids.size(), .list = {}};
  choices.history.insert(choices.history.end(), manifest.generated.begin(), manifest.generated.end());
  // A prompt may come in several steps (mlx-lm feeds its last token alone): the first choice is made at its end.
  std::int64_t place = -std::ssize(manifest.token_ids);
  for (std::size_t s = 0; s < suspect.steps().size(); ++s) {
    place += suspect.steps()[s].count;
    if (place < 0 || std::cmp_greater_equal(place, manifest.generated.size())) continue;
    // Of several generated tokens in one pass each but the first was drafted, and verified by the row before it.
    for (std::int64_t back = std::min(suspect.steps()[s].count - 1, place); back >= 0; --back) {
      auto choice = row_of(suspect, s, back, vocab, own);
      if (!choice) continue;
      choice->token = manifest.generated[static_cast<std::size_t>(place - back)];
      choice->before = choices.prompt + static_cast<std::size_t>(place - back);
      choice->drafted = back > 0;
      for (std::size_t i = 0; i < choice->scores.size() && choice->at < 0; ++i) {
        if (choice->id(i) == choice->token) choice->at = static_cast<std::int64_t>(i);
      }
      // What an engine takes for the largest where there are none is no choice.
      if (std::ranges::none_of(choice->scores, [](double score) { return std::isnan(score); })) choices.list.push_back(std::move(*choice));
    }
  }
  return choices;
}

std::vector<double> penalised(const Choices& choices, const Choice& choice, const Penalty& penalty) {
  const auto repeated = counted(choices, choice, penalty.repeated, penalty.window);
  const auto seen = counted(choices, choice, penalty.counted, penalty.window);
  std::vector<double> scores = choice.scores;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const std::int32_t id = choice.id(i);
    scores[i] = penalty.of(scores[i], times(repeated, id), times(seen, id));
    if (const auto bias = penalty.bias.find(id); bias != penalty.bias.end()) scores[i] += bias->second;
  }
  return scores;
}

Repetitions::Repetitions(const Choices& choices, const Penalty& extent) {
  for (const Choice& choice : choices.list) {
    if (choice.drafted || choice.at < 0) continue;
    const auto repeated = counted(choices, choice, extent.repeated, extent.window);
    const auto seen = counted(choices, choice, extent.counted, extent.window);
    Row row{.seen = {}, .most_unseen = kNever, .token = {}, .slack = choice.slack()};
    for (std::size_t i = 0; i < choice.scores.size(); ++i) {
      const Entry entry{choice.scores[i], times(repeated, choice.id(i)), times(seen, choice.id(i))};
      if (entry.repeated > 0 || entry.counted > 0) row.seen.push_back(entry);
      else row.most_unseen = std::max(row.most_unseen, entry.score);
      if (std::cmp_equal(i, choice.at)) row.token = entry;
    }
    rows_.push_back(std::move(row));
  }
}

bool Repetitions::explained_by(const Penalty& penalty) const {
  return !rows_.empty() && std::ranges::all_of(rows_, [&](const Row& row) {
    const auto under = [&](const Entry& entry) { return penalty.of(entry.score, entry.repeated, entry.counted); };
    const double own = under(row.token) + row.slack;
    return own >= row.most_unseen && std::ranges::all_of(row.seen, [&](const Entry& entry) { return under(entry) <= own; });
  });
}

std::optional<Penalty> penalty_that_explains(const Choices& choices) {
  // In hundredths, the roundest first.
  const auto amounts = [](int low, int high) {
    std::vector<double> list;
    for (const int step : {10, 5, 1}) {
      for (int hundredths = low; hundredths <= high; ++hundredths) {
        const bool rounder = (step < 10 && hundredths % 10 == 0) || (step < 5 && hundredths % 5 == 0);
        if (hundredths % step == 0 && !rounder) list.push_back(hundredths / 100.0);
      }
    }
    return list;
  };
  const auto factors = amounts(101, 250);
  const auto constants = amounts(1, 500);
  std::vector<std::pair<Penalty, Repetitions>> extents;
  const auto add = [&](SeenIn where, std::optional<std::int64_t> window) {
    Penalty extent;
    extent.repeated = extent.counted = where;
    extent.window = window;
    extents.emplace_back(extent, Repetitions(choices, extent));
  };
  add(SeenIn::kAll, std::nullopt);
  add(SeenIn::kAnswer, std::nullopt);
  for (const std::int64_t window : {64, 16, 20, 32, 128, 256, 512}) {
    if (std::cmp_less(window, choices.history.size())) add(SeenIn::kAll, window);
  }
  const bool signs = std::ranges::all_of(choices.list, [](const Choice& choice) { return choice.signs; });
  for (const auto& [extent, rows] : extents) {
    if (!signs) break;
    Penalty penalty = extent;
    for (const double amount : factors) {
      penalty.repetition = amount;
      if (rows.explained_by(penalty)) return penalty;
    }
  }
  for (double Penalty::*const which : {&Penalty::presence, &Penalty::frequency}) {
    for (const std::size_t i : {std::size_t{1}, std::size_t{0}}) {
      Penalty penalty = extents[i].first;
      for (const double amount : constants) {
        penalty.*which = amount;
        if (extents[i].second.explained_by(penalty)) return penalty;
      }
    }
  }
  constexpr int kQuarters = 8;  // up to 2
  for (const std::size_t i : {std::size_t{1}, std::size_t{0}}) {
    Penalty penalty = extents[i].first;
    for (int presence = 1; presence <= kQuarters; ++presence) {
      for (int frequency = 1; frequency <= kQuarters; ++frequency) {
        penalty.presence = presence / 4.0;
        penalty.frequency = frequency / 4.0;
        if (extents[i].second.explained_by(penalty)) return penalty;
      }
    }
  }
  return std::nullopt;
}

}  // namespace plumb
