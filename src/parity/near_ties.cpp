// One wrong row after the other: its nearest exchanges are tried, and those under which the row is right are the suspect's.
#include "parity/near_ties.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "parity/captured_views.h"
#include "parity/choices.h"
#include "parity/hypothesis.h"
#include "reference/kernels.h"

namespace plumb {
namespace {

// The rows of a table of experts for each token: under it a router weighs what is listed instead of what it would choose.
class Listed final : public Weight {
 public:
  explicit Listed(const Tensor& ids) : ids_(ids), shape_{ids.tokens(), ids.width()} {}
  const Shape& shape() const override { return shape_; }
  void read_row(std::int64_t row, std::span<double> out) const override { std::ranges::copy(ids_.row(row), out.begin()); }
  std::string format() const override { return "ids"; }
  std::uint64_t stored_bytes() const override { return 0; }

 private:
  const Tensor& ids_;
  Shape shape_;
};

bool chooses_by_score(const Stage& stage) {
  const auto* router = std::get_if<Router>(&stage.operation);
  return std::holds_alternative<Index>(stage.operation) || (router != nullptr && router->choice == RouterChoice::kLargest);
}

// What the choice compares: [tokens, entries]. `read`: what the stage reads first; `bias`: its first parameter, if it has one.
Tensor compared_scores(const Stage& stage, const Tensor& read, const Tensor& scored, const Weight* bias) {
  const auto* router = std::get_if<Router>(&stage.operation);
  if (router == nullptr) return scored;
  Tensor scores = router->order == RouterOrder::kSelectThenScore ? read : scored;
  if (router->selection_bias == SelectionBias::kNone || bias == nullptr) return scores;
  const auto added = reference::read_vector(*bias, Numerics(Precision::kFp32));
  for (std::size_t i = 0; i < scores.data.size(); ++i)
    scores.data[i] += added[i % added.size()];
  return scores;
}

// The weights of the experts in `ids`.
void weigh_again(const Stage& stage, const StageOperands& operands, const StageContext& context, std::vector<Tensor>& outputs) {
  Stage listing = stage;
  std::get<Router>(listing.operation).choice = RouterChoice::kTable;
  const Listed table(outputs[kChoice]);
  Tensor rows({outputs[kChoice].tokens()});
  for (std::size_t t = 0; t < rows.data.size(); ++t)
    rows.data[t] = static_cast<double>(t);
  StageOperands given = operands;
  given.inputs.resize(1);
  given.inputs.push_back(&rows);
  given.weights.push_back(&table);
  outputs[2] = std::move(run_stage(listing, given, context)[2]);
}

// A view under which the suspect took these.
class Preferring final : public CapturedView {
 public:
  Preferring(const Captured& own, std::vector<Preference> preferences) : CapturedView(own), preferences_(std::move(preferences)) {}
  std::span<const Preference> preferences() const override { return preferences_; }

 private:
  std::vector<Preference> preferences_;
};

// What one stage chose, its scores, and how far rounding moves them.
struct Choice {
  int stage;
  Tensor chosen;
  Tensor scores;
  std::vector<double> noise;  // of each token
};

class Settling {
 public:
  Settling(const BoundGraph& network, const Captured& captured, const Arithmetic& arithmetic, ThreadPool& pool)
      : network_(network), captured_(captured), arithmetic_(arithmetic), pool_(pool) {}

  // Adds what makes the check's wrong rows right.
  void settle(const Check& check);

  std::vector<Preference> preferences() && { return std::move(preferences_); }

 private:
  std::vector<double> errors_under(const Check& check, const std::vector<Preference>& preferences) const;
  Tensor scores_in(Recompute& recompute, std::size_t step, int index) const;
  std::vector<Choice> choices_of(const Check& check, const std::vector<int>& stages) const;
  std::vector<Preference> nearest(const std::vector<Choice>& choices, std::size_t step, std::int64_t token) const;
  bool settle_row(const Check& check, const std::vector<int>& stages, std::int64_t row, std::vector<double>& errors);

  const BoundGraph& network_;
  const Captured& captured_;
  const Arithmetic& arithmetic_;
  ThreadPool& pool_;
  std::vector<Preference> preferences_;
  double products_ = 0;  // multiplications spent
};

constexpr double kMostProducts = 2e10;  // in all: some ten seconds of one core
constexpr double kWrong = 2;            // budgets of a row that no rounding explains

// Multiplications of the stages in `span` over `tokens`.
double products_of(const BoundGraph& network, const std::vector<int>& span, std::int64_t tokens) {
  double sum = 0;
  for (const int index : span) {
    for (const int param : stage_at(network, index).params) {
      const Shape& shape = network.graph.params[static_cast<std::size_t>(param)].shape;
      if (shape.size() > 1) sum += static_cast<double>(tokens) * static_cast<double>(element_count(shape).value_or(0));
    }
  }
  return sum;
}

std::vector<double> Settling::errors_under(const Check& check, const std::vector<Preference>& preferences) const {
  const Preferring view(captured_, preferences);
  Checker checker(network_, view, arithmetic_, pool_);
  (void)checker.suspect(check);  // is read before it is asked for
  return checker.row_errors(check);
}

Tensor Settling::scores_in(Recompute& recompute, std::size_t step, int index) const {
  const Stage& stage = stage_at(network_, index);
  const auto held = recompute.captured(step, stage.inputs[0]);
  const Tensor& read = held ? held->values : recompute.computed(step, stage.inputs[0]);
  const Weight* bias = stage.params.empty() ? nullptr : network_.weights[static_cast<std::size_t>(stage.params[0])].get();
  return compared_scores(stage, read, recompute.computed(step, {index, 0}), bias);
}

// Of each of the stages, under what has been settled.
std::vector<Choice> Settling::choices_of(const Check& check, const std::vector<int>& stages) const {
  const Preferring view(captured_, preferences_);
  const Patch nothing;
  std::vector<Precision> runs = {arithmetic_.formula};
  for (const Precision profile : arithmetic_.profiles)
    runs.push_back(profile == arithmetic_.formula ? Precision::kFp64 : profile);
  std::vector<Choice> list;
  for (std::size_t run = 0; run < runs.size(); ++run) {
    Recompute recompute(network_, view, Numerics(runs[run]), pool_, nothing);
    for (std::size_t i = 0; i < stages.size(); ++i) {
      Tensor scores = scores_in(recompute, check.step, stages[i]);
      if (run == 0) {
        std::vector<double> none(static_cast<std::size_t>(scores.tokens()), 0.0);
        list.push_back({.stage = stages[i], .chosen = recompute.computed(check.step, {stages[i], kChoice}), .scores = std::move(scores), .noise = std::move(none)});
        continue;
      }
      Choice& choice = list[i];
      if (scores.shape != choice.scores.shape) continue;
      constexpr double kRms = 8;
      constexpr double kSums = 32 * 0x1p-24;  // of float32, in another order than ours
      for (std::int64_t t = 0; t < scores.tokens(); ++t) {
        double squares = 0;
        double largest = 0;
        double count = 0;
        for (std::size_t e = 0; e < scores.row(t).size(); ++e) {
          const double exact = choice.scores.row(t)[e];
          const double rounded = scores.row(t)[e];
          if (!std::isfinite(exact) || !std::isfinite(rounded)) continue;
          squares += (exact - rounded) * (exact - rounded);
          largest = std::max(largest, std::abs(exact));
          ++count;
        }
        double& noise = choice.noise[static_cast<std::size_t>(t)];
        if (count > 0) noise = std::max({noise, kRms * std::sqrt(squares / count), kSums * largest});
      }
    }
  }
  return list;
}

// The exchanges that rounding may make of a token's choices, the nearest first.
std::vector<Preference> Settling::nearest(const std::vector<Choice>& choices, std::size_t step, std::int64_t token) const {
  constexpr std::size_t kOfOne = 4;
  std::vector<Preference> all;
  for (const Choice& choice : choices) {
    if (token >= choice.scores.tokens()) continue;
    const auto scores = choice.scores.row(token);
    const auto chosen = choice.chosen.row(token);
    const double noise = choice.noise[static_cast<std::size_t>(token)];
    std::vector<std::pair<double, Preference>> near;
    for (const double out : chosen) {
      if (!(out >= 0) || out >= static_cast<double>(scores.size())) continue;
      for (std::size_t in = 0; in < scores.size(); ++in) {
        const double gap = scores[static_cast<std::size_t>(out)] - scores[in];
        if (!(gap <= noise) || std::ranges::find(chosen, static_cast<double>(in)) != chosen.end()) continue;
        near.emplace_back(gap, Preference{.step = step, .stage = choice.stage, .token = token, .out = out, .in = static_cast<double>(in), .gap = noise});
      }
    }
    std::stable_sort(near.begin(), near.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    if (near.size() > kOfOne) near.resize(kOfOne);
    for (auto& [gap, preference] : near)
      all.push_back(preference);
  }
  return all;
}

bool Settling::settle_row(const Check& check, const std::vector<int>& stages, std::int64_t row, std::vector<double>& errors) {
  constexpr int kExchanges = 4;  // of one token
  constexpr double kGain = 0.7;
  const auto at = static_cast<std::size_t>(row);
  const std::int64_t tokens = captured_.steps()[check.step].count;
  const std::int64_t token = tokens - static_cast<std::int64_t>(errors.size()) + row;
  const double cost = products_of(network_, check.span, tokens);
  const std::vector<Preference> before = preferences_;
  const std::vector<double> errors_before = errors;
  for (int exchange = 0; exchange < kExchanges && errors[at] > kWrong * check.budget; ++exchange) {
    std::optional<Preference> best;
    std::vector<double> least = errors;
    products_ += cost * static_cast<double>(1 + arithmetic_.profiles.size());
    for (const Preference& candidate : nearest(choices_of(check, stages), check.step, token)) {
      if (products_ > kMostProducts) break;
      products_ += cost;
      auto trial = preferences_;
      trial.push_back(candidate);
      auto under = errors_under(check, trial);
      if (under.size() != errors.size() || !(under[at] < least[at])) continue;
      least = std::move(under);
      best = candidate;
    }
    if (!best || !(least[at] < kGain * errors[at])) break;
    preferences_.push_back(*best);
    errors = std::move(least);
  }
  if (errors[at] <= kWrong * check.budget) return true;
  preferences_ = before;
  errors = errors_before;
  return false;
}

void Settling::settle(const Check& check) {
  std::vector<int> stages;
  for (const int index : check.span) {
    const Stage& stage = stage_at(network_, index);
    if (chooses_by_score(stage) && captured_.value(check.step, stage.outputs[kChoice].name) == nullptr) stages.push_back(index);
  }
  if (stages.empty()) return;
  auto errors = errors_under(check, preferences_);
  for (std::size_t row = 0; row < errors.size(); ++row) {
    if (errors[row] > kWrong * check.budget && !settle_row(check, stages, static_cast<std::int64_t>(row), errors)) return;
  }
}

}  // namespace

void take_preferred(const Stage& stage, int index, std::size_t step, std::span<const Preference> preferences, const StageOperands& operands,
                    const StageContext& context, std::vector<Tensor>& outputs) {
  const auto here = [&](const Preference& one) { return one.step == step && one.stage == index; };
  if (!chooses_by_score(stage) || std::ranges::none_of(preferences, here)) return;
  const Tensor scores = compared_scores(stage, *operands.inputs[0], outputs[0], operands.weights.empty() ? nullptr : operands.weights[0]);
  Tensor& chosen = outputs[kChoice];
  bool changed = false;
  for (const Preference& one : preferences) {
    if (!here(one) || one.token >= chosen.tokens() || one.out >= static_cast<double>(scores.width()) || one.in >= static_cast<double>(scores.width())) continue;
    const auto row = scores.row(one.token);
    const auto own = chosen.row(one.token);
    const auto place = std::ranges::find(own, one.out);
    const double gap = row[static_cast<std::size_t>(one.out)] - row[static_cast<std::size_t>(one.in)];
    if (place == own.end() || std::ranges::find(own, one.in) != own.end() || !(std::abs(gap) <= one.gap)) continue;
    *place = one.in;
    changed = true;
  }
  if (changed && std::holds_alternative<Router>(stage.operation)) weigh_again(stage, operands, context, outputs);
}

std::vector<Preference> preferences_of(const BoundGraph& network, const Captured& captured, const Arithmetic& arithmetic, ThreadPool& pool,
                                       const std::vector<Check>& checks) {
  Settling settling(network, captured, arithmetic, pool);
  for (const Check& check : checks) {
    if (check.fails && !check.exact) settling.settle(check);
  }
  return std::move(settling).preferences();
}

}  // namespace plumb
