// Routers yield probabilities, ids and weights (Builder::router), indices yield scores and the chosen blocks (Builder::index).
#include "parity/choices.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

namespace plumb {
namespace {

constexpr std::size_t kNowhere = static_cast<std::size_t>(-1);
constexpr double kSameScore = 1e-6;  // of the larger: float32 sums in another order

// For each place of `theirs`, the place of the same entry in `ours`; places that find none share what is left, in order. `left` receives
// those.
std::vector<std::size_t> places(std::span<const double> ours, std::span<const double> theirs,
                                std::vector<std::size_t>& left) {
  std::vector<std::size_t> from(theirs.size(), kNowhere);
  std::vector<bool> taken(ours.size(), false);
  for (std::size_t i = 0; i < theirs.size(); ++i) {
    for (std::size_t j = 0; j < ours.size() && from[i] == kNowhere; ++j) {
      if (taken[j] || ours[j] != theirs[i]) continue;
      from[i] = j;
      taken[j] = true;
    }
  }
  std::size_t next = 0;
  for (std::size_t i = 0; i < from.size(); ++i) {
    if (from[i] != kNowhere) continue;
    while (taken[next])
      ++next;
    taken[next] = true;
    from[i] = next;
    left.push_back(i);
  }
  return from;
}

void reorder(std::span<double> row, const std::vector<std::size_t>& from) {
  const std::vector<double> before(row.begin(), row.end());
  for (std::size_t i = 0; i < from.size(); ++i)
    row[i] = before[from[i]];
}

// The scores of `entries` at the places `left`, sorted; empty where one has none.
std::vector<double> scores_of(std::span<const double> scores, std::span<const double> entries,
                              const std::vector<std::size_t>& left) {
  std::vector<double> found;
  for (const std::size_t i : left) {
    const double entry = entries[i];
    if (!(entry >= 0) || entry >= static_cast<double>(scores.size())) return {};
    found.push_back(scores[static_cast<std::size_t>(entry)]);
  }
  std::sort(found.begin(), found.end());
  return found;
}

bool alike(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() && !a.empty() &&
         std::equal(a.begin(), a.end(), b.begin(), [](double x, double y) {
           return std::isfinite(x) && std::isfinite(y) &&
                  std::abs(x - y) <= kSameScore * std::max(std::abs(x), std::abs(y));
         });
}

}  // namespace

int choice_of(const Stage& stage) {
  const bool chooses =
      std::holds_alternative<Router>(stage.operation) || std::holds_alternative<Index>(stage.operation);
  return chooses ? kChoice : -1;
}

void take_order_of(const Stage& stage, const Tensor& theirs, std::vector<Tensor>& outputs) {
  const int choice = choice_of(stage);
  if (choice < 0) return;
  Tensor& ours = outputs[static_cast<std::size_t>(choice)];
  if (ours.shape != theirs.shape) return;
  for (std::int64_t t = 0; t < ours.tokens(); ++t) {
    std::vector<std::size_t> left;
    const auto from = places(ours.row(t), theirs.row(t), left);
    reorder(ours.row(t), from);
    if (std::holds_alternative<Router>(stage.operation)) {
      reorder(outputs[2].row(t), from);
    } else if (alike(scores_of(outputs[0].row(t), ours.row(t), left),
                     scores_of(outputs[0].row(t), theirs.row(t), left))) {
      for (const std::size_t i : left)
        ours.row(t)[i] = theirs.row(t)[i];
    }
  }
}

}  // namespace plumb
