#include "parity/drawn_choices.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "parity/rung_results.h"

namespace plumb {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();
constexpr double kColdest = 0.05;
constexpr double kWarmest = 4;
constexpr double kWarmer = 1.05;
constexpr double kSurely = 7;  // nats: by chance once in some thousand runs

// Scores over a temperature as logs of shares of the whole, what is not shown among it: of its entries each as large as all others.
std::vector<double> shares(const std::vector<double>& scores, const Choice& choice, double temperature) {
  std::vector<double> scaled(scores);
  double most = kNever;
  for (double& value : scaled) {
    value /= temperature;
    most = std::max(most, value);
  }
  double sum = 0;
  for (const double value : scaled)
    sum += std::exp(value - most);
  if (choice.unshown > 0) {
    const auto entries = static_cast<double>(choice.unshown);
    sum += entries * std::exp((choice.unshown_log - std::log(entries)) / temperature - most);
  }
  const double total = most + std::log(sum);
  for (double& value : scaled)
    value -= total;
  return scaled;
}

// Log of how likely the token is; that of an entry that is not shown where it is none of them.
double chance(const std::vector<double>& scores, const Choice& choice, double temperature) {
  const auto all = shares(scores, choice, temperature);
  if (choice.at >= 0) return all[static_cast<std::size_t>(choice.at)];
  const auto entries = static_cast<double>(std::max<std::int64_t>(choice.unshown, 1));
  return all.front() + ((choice.unshown_log - std::log(entries)) - scores.front()) / temperature;
}

using Rows = std::vector<std::pair<const Choice*, std::vector<double>>>;

Rows rows_under(const Choices& choices, const Penalty& penalty) {
  Rows rows;
  for (const Choice& choice : choices.list)
    rows.emplace_back(&choice, penalised(choices, choice, penalty));
  return rows;
}

double chance_of_all(const Rows& rows, double temperature) {
  double sum = 0;
  for (const auto& [choice, scores] : rows)
    sum += std::max(chance(scores, *choice, temperature), -50.0);
  return sum;
}

struct Fit {
  double temperature = 1;
  double chance = kNever;
};

Fit best(const Rows& rows) {
  Fit fit;
  for (double temperature = kColdest; temperature < kWarmest; temperature *= kWarmer) {
    const double sum = chance_of_all(rows, temperature);
    if (sum > fit.chance) fit = {temperature, sum};
  }
  return fit;
}

// What a cut leaves: log shares, minus infinity where nothing is left of an entry, renormalised. `slack` of a sum of probabilities.
std::vector<double> cut(std::vector<double> logs, const DeclaredSampler& sampler, double slack) {
  std::vector<std::size_t> order(logs.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return logs[a] > logs[b]; });
  std::size_t kept = order.size();
  if (sampler.top_k > 0 && std::cmp_less(sampler.top_k, kept)) {
    kept = static_cast<std::size_t>(sampler.top_k);
    while (kept < order.size() && logs[order[kept]] >= logs[order[kept - 1]])
      ++kept;  // exact ties are kept
  }
  double all = 0;
  for (std::size_t i = 0; i < kept; ++i)
    all += std::exp(logs[order[i]]);
  const bool whole = kept == order.size();  // what is not shown has the rest of 1
  const double total = whole ? std::max(all, 1.0) : all;
  double before = 0;
  const double least = logs[order[0]] + std::log(std::max(sampler.min_p, 1e-300)) - slack;
  double left = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const bool in_p = sampler.top_p >= 1 || i == 0 || before / total < sampler.top_p + slack;
    const bool in_min = sampler.min_p <= 0 || logs[order[i]] >= least;
    before += std::exp(logs[order[i]]);
    if (i >= kept || !in_p || !in_min) logs[order[i]] = kNever;
    else left += std::exp(logs[order[i]]);
  }
  for (double& value : logs)
    value -= std::log(left);
  return logs;
}

// transformers cuts what is over the temperature; llama.cpp divides what the cuts left.
double chance_cut(const std::vector<double>& scores, const Choice& choice, double temperature, const DeclaredSampler& sampler, bool temperature_first) {
  constexpr double kSlack = 4;  // of the rounding
  const double slack = kSlack * std::max(choice.rounding, 1e-4);
  if (choice.at < 0) return chance(scores, choice, temperature);
  const auto place = static_cast<std::size_t>(choice.at);
  if (temperature_first) return cut(shares(scores, choice, temperature), sampler, slack)[place];
  const auto left = cut(shares(scores, choice, 1), sampler, slack);
  double sum = 0;
  for (const double value : left)
    sum += std::exp(value / temperature);
  return left[place] / temperature - std::log(sum);
}

double chance_cut_of_all(const Rows& rows, double temperature, const DeclaredSampler& sampler, bool temperature_first) {
  double sum = 0;
  for (const auto& [choice, scores] : rows)
    sum += std::max(chance_cut(scores, *choice, temperature, sampler, temperature_first), -50.0);
  return sum;
}

}  // namespace

double likely_temperature(const Choices& choices, const Penalty& penalty) {
  constexpr double kFirst = 0.1;
  constexpr double kLast = 3;
  const Rows rows = rows_under(choices, penalty);
  Fit fit;
  for (double temperature = kFirst; temperature < kLast; temperature *= kWarmer) {
    const double sum = chance_of_all(rows, temperature);
    if (sum > fit.chance) fit = {temperature, sum};
  }
  return fit.temperature;
}

std::optional<Penalty> likely_penalty(const Choices& choices, const Penalty& named) {
  const double as_named = best(rows_under(choices, named)).chance;
  double most = as_named + kSurely;
  std::optional<Penalty> found;
  const auto consider = [&](const Penalty& penalty) {
    const double sum = best(rows_under(choices, penalty)).chance;
    if (sum <= most) return;
    most = sum;
    found = penalty;
  };
  if (named.any()) consider({});
  constexpr int kTenths = 10;
  const bool signs = std::ranges::all_of(choices.list, [](const Choice& choice) { return choice.signs; });
  for (const SeenIn where : {SeenIn::kAll, SeenIn::kAnswer}) {
    for (int i = 1; signs && i <= kTenths; ++i) {
      Penalty penalty;
      penalty.repeated = where;
      penalty.repetition = 1 + i / 10.0;
      consider(penalty);
    }
    for (double Penalty::*const which : {&Penalty::presence, &Penalty::frequency}) {
      for (int i = 1; i <= 4; ++i) {
        Penalty penalty;
        penalty.counted = where;
        penalty.*which = i / 2.0;
        consider(penalty);
      }
    }
  }
  return found;
}

std::optional<Finding> cut_not_applied(const Choices& choices, const DeclaredSampler& sampler, const Penalty& penalty) {
  const Rows rows = rows_under(choices, penalty);
  const auto outside = [&](const DeclaredSampler& of, bool temperature_first) {
    return std::ranges::count_if(rows, [&](const auto& row) {
      return row.first->at >= 0 && chance_cut(row.second, *row.first, *of.temperature, of, temperature_first) == kNever;
    });
  };
  const auto unshown = [&](const Choice& choice) { return choice.at < 0 && sampler.top_k > 0 && std::cmp_less_equal(sampler.top_k, choice.scores.size()); };
  const bool beyond = std::ranges::any_of(choices.list, unshown);
  if (!beyond && (outside(sampler, true) == 0 || outside(sampler, false) == 0)) return std::nullopt;
  DeclaredSampler one;
  one.temperature = sampler.temperature;
  const auto breaks = [&](const DeclaredSampler& of) { return outside(of, true) > 0 && outside(of, false) > 0; };
  if (sampler.top_k > 0) {
    std::int64_t rank = 0;
    for (const auto& [choice, scores] : rows) {
      const double own = choice->at < 0 ? kNever : scores[static_cast<std::size_t>(choice->at)];
      rank = std::max<std::int64_t>(rank, 1 + std::ranges::count_if(scores, [&](double score) { return score > own; }));
    }
    one.top_k = sampler.top_k;
    if (beyond || breaks(one))
      return rung_finding("sampler", "8", "a token is drawn that the top k named by the trace leaves out", sampler.top_k, rank);
  }
  one.top_k = 0;
  one.top_p = sampler.top_p;
  if (breaks(one)) return rung_finding("sampler", "8", "a token is drawn that the top p named by the trace leaves out", sampler.top_p, std::monostate{});
  one.top_p = 1;
  one.min_p = sampler.min_p;
  if (breaks(one)) return rung_finding("sampler", "8", "a token is drawn that the min p named by the trace leaves out", sampler.min_p, std::monostate{});
  return rung_finding("sampler", "8", "a token is drawn that the cuts named by the trace leave out together", std::monostate{}, std::monostate{});
}

std::optional<Finding> other_temperature(const Choices& choices, const DeclaredSampler& sampler, const Penalty& penalty) {
  const Rows rows = rows_under(choices, penalty);
  const double named = *sampler.temperature;
  const bool first = chance_cut_of_all(rows, named, sampler, true) >= chance_cut_of_all(rows, named, sampler, false);
  const auto at = [&](double temperature) { return chance_cut_of_all(rows, temperature, sampler, first); };
  const double as_named = at(named);
  Fit fit;
  for (double temperature = kColdest; temperature < kWarmest; temperature *= kWarmer) {
    const double sum = at(temperature);
    if (sum > fit.chance) fit = {temperature, sum};
  }
  if (fit.chance - as_named <= kSurely) return std::nullopt;
  const bool largest = std::ranges::all_of(rows, [](const auto& row) {
    return row.first->at >= 0 && row.second[static_cast<std::size_t>(row.first->at)] + row.first->slack() >= *std::ranges::max_element(row.second);
  });
  if (largest)
    return rung_finding("sampler", "8", "every token is the largest logit: the temperature that the trace names is not applied", named, 0.0);
  constexpr double kAlike = 2;  // nats
  if (named != 1 && fit.chance - at(1) < kAlike)
    return rung_finding("sampler", "8", "tokens are drawn as if without the temperature that the trace names", named, 1.0);
  const double twice = named * named;
  if (twice > kColdest && fit.chance - at(twice) < kAlike)
    return rung_finding("sampler", "8", "tokens are drawn as if the temperature that the trace names were applied twice", named, std::round(twice * 1e4) / 1e4);
  return rung_finding("sampler", "8", "tokens are drawn at another temperature than the trace names", named, std::round(fit.temperature * 100) / 100);
}

}  // namespace plumb
