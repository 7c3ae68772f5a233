// Snaps, a grid, its best point, and what lies beside the right value.
#include "parity/number_search.h"

#include <algorithm>
#include <cmath>

namespace plumb {
namespace {

constexpr int kGridPoints = 25;
constexpr double kMostIntegers = 128;  // values of a whole number that are all tried
constexpr double kNoEffect = 1e-9;     // of the residual: the number changes nothing here
constexpr double kNoMinimum = 0.98;    // of the residual: no point of the grid is better than the right value
constexpr double kHopeless = 0.15;     // of the worse neighbour on the grid
constexpr double kNear = 1e-3;         // octaves beside the right value

}  // namespace

double number_of(const FieldValue& value) {
  if (const auto* number = std::get_if<double>(&value)) return *number;
  const auto* whole = std::get_if<std::int64_t>(&value);
  return whole != nullptr ? static_cast<double>(*whole) : 0;
}

NumberSearch::NumberSearch(const NumberQuestion& about) : about_(about) {
  std::vector<double> snaps;
  for (const double snap : about_.range->snaps) {
    if (snap >= about_.range->low && snap <= about_.range->high) snaps.push_back(snap);
  }
  ask(Phase::kSnaps, std::move(snaps));
  if (wanted_.empty()) after_snaps({});
}

void NumberSearch::ask(Phase phase, std::vector<double> values) {
  phase_ = phase;
  wanted_ = std::move(values);
}

double NumberSearch::place(double x) const {
  const Range& range = *about_.range;
  if (phase_ == Phase::kNear || phase_ == Phase::kBeside) return number_of(*about_.right) * std::pow(2, x);
  return range.logarithmic ? range.low * std::pow(range.high / range.low, x) : range.low + x * (range.high - range.low);
}

void NumberSearch::ask_minimum(Phase phase) {
  phase_ = phase;
  wanted_ = {place(minimum_->next())};
}

void NumberSearch::after_snaps(std::span<const double> residuals) {
  const Range& range = *about_.range;
  const bool any = std::ranges::any_of(residuals, [&](double r) {
    return std::isfinite(r) && std::abs(r - about_.before) > kNoEffect * about_.before;
  });
  const bool other = std::ranges::any_of(wanted_, [&](double snap) { return to_string(FieldValue(snap)) != to_string(*about_.right); });
  ask(Phase::kOver, {});
  if (!range.snaps.empty() && ((other && !any) || !about_.solve)) return;
  std::vector<double> values;
  if (!range.integer) {
    phase_ = Phase::kGrid;
    for (int i = 0; i < kGridPoints; ++i)
      values.push_back(place(static_cast<double>(i) / (kGridPoints - 1)));
    return ask(Phase::kGrid, std::move(values));
  }
  // Counts of tokens go as far as there are tokens.
  const double most = std::min(range.high, static_cast<double>(about_.known_tokens) + 1);
  const double high = range.low >= 1 && range.high > kMostIntegers ? most : range.high;
  if (high - range.low > kMostIntegers) return;
  for (double value = range.low; value <= high; ++value)
    values.push_back(value);
  ask(Phase::kIntegers, std::move(values));
}

void NumberSearch::after_grid(std::span<const double> residuals) {
  const auto best = static_cast<int>(std::ranges::min_element(residuals) - residuals.begin());
  const auto at = [&](int i) { return residuals[static_cast<std::size_t>(std::clamp(i, 0, kGridPoints - 1))]; };
  if (!(at(best) <= kNoMinimum * about_.before)) return;
  const double step = 1.0 / (kGridPoints - 1);
  minimum_.emplace(MinimumIn{.low = (best - 1) * step,
                             .high = (best + 1) * step,
                             .hopeless = kHopeless * std::max(at(best - 1), at(best + 1))});
  minimum_->know(best * step, at(best));
  if (best > 0) minimum_->know((best - 1) * step, at(best - 1));
  if (best + 1 < kGridPoints) minimum_->know((best + 1) * step, at(best + 1));
  ask_minimum(Phase::kBest);
}

// A number that is almost the right one lies between the points of the grid.
void NumberSearch::look_beside(double least) {
  ask(Phase::kOver, {});
  if (least <= about_.good_enough || number_of(*about_.right) == 0) return;
  phase_ = Phase::kBeside;
  ask(Phase::kBeside, {place(kNear), place(-kNear)});
}

void NumberSearch::tell(std::span<const double> residuals, double least) {
  switch (phase_) {
    case Phase::kSnaps:
      if (least <= about_.good_enough) return ask(Phase::kOver, {});
      return after_snaps(residuals);
    case Phase::kGrid:
      ask(Phase::kOver, {});
      after_grid(residuals);
      if (phase_ == Phase::kOver) look_beside(least);
      return;
    case Phase::kBest:
      minimum_->tell(residuals[0]);
      if (!minimum_->over()) return ask_minimum(Phase::kBest);
      return look_beside(least);
    case Phase::kBeside:
      if (std::min(residuals[0], residuals[1]) >= about_.before) return ask(Phase::kOver, {});
      minimum_.emplace(MinimumIn{.low = -1, .high = 1, .hopeless = about_.before});
      minimum_->know(kNear, residuals[0]);
      minimum_->know(-kNear, residuals[1]);
      minimum_->know(0, about_.before);
      return ask_minimum(Phase::kNear);
    case Phase::kNear:
      minimum_->tell(residuals[0]);
      if (!minimum_->over()) return ask_minimum(Phase::kNear);
      return ask(Phase::kOver, {});
    case Phase::kIntegers:
    case Phase::kOver:
      return ask(Phase::kOver, {});
  }
}

}  // namespace plumb
