#include "parity/ties.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <utility>

#include "parity/captured_views.h"
#include "parity/choices.h"
#include "parity/recompute.h"

namespace plumb {
namespace {

class Under final : public CapturedView {
 public:
  Under(const Captured& own, Ties ties) : CapturedView(own), ties_(ties) {}
  Ties ties() const override { return ties_; }

 private:
  Ties ties_;
};

// The same entries in any order.
bool same_set(std::span<const double> a, std::span<const double> b) {
  return std::ranges::is_permutation(a, b);
}

double squares_between(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

// Whether the passes feed known ids in order from position 0 on, so that no length is more than there are ids.
bool begins_and_follows(const Captured& captured) {
  std::int64_t next = 0;
  for (std::size_t step = 0; step < captured.steps().size(); ++step) {
    if (captured.steps()[step].first != next || captured.fed_ids(step).empty()) return false;
    next += captured.steps()[step].count;
  }
  return next > 0;
}

}  // namespace

void choose_as_torch(const Stage& stage, std::int64_t known_length, std::vector<Tensor>& outputs) {
  const auto& op = std::get<Index>(stage.operation);
  const Tensor& scores = outputs[0];
  Tensor& chosen = outputs[kChoice];
  const std::int64_t ratio = std::max<std::int64_t>(op.blocks.ratio, 1);
  const auto entries = static_cast<std::size_t>(std::max(scores.width(), known_length / ratio));
  const std::size_t count = std::min(entries, static_cast<std::size_t>(chosen.width()));
  if (count == 0) return;
  using Entry = std::pair<double, std::size_t>;
  // What is no number is above all others, as there: without it this would be no order, and a sort would leave its row.
  const auto higher = [](const Entry& a, const Entry& b) { return (std::isnan(a.first) && !std::isnan(b.first)) || a.first > b.first; };
  std::vector<Entry> row(entries);  // at most one for each id: see begins_and_follows()
  for (std::int64_t t = 0; t < scores.tokens(); ++t) {
    for (std::size_t i = 0; i < entries; ++i)
      row[i] = {i < scores.row(t).size() ? scores.row(t)[i] : -std::numeric_limits<double>::infinity(), i};
    // topk_impl_loop of ATen/native/cpu: which of equal entries stand in front is what these two leave there.
    constexpr std::size_t kFew = 64;
    const auto end = row.begin() + static_cast<std::ptrdiff_t>(count);
    if (count * kFew <= entries) {
      std::partial_sort(row.begin(), end, row.end(), higher);
    } else {
      std::nth_element(row.begin(), end - 1, row.end(), higher);
      std::sort(row.begin(), end - 1, higher);
    }
    for (std::size_t i = 0; i < count; ++i)
      chosen.row(t)[i] = std::isinf(row[i].first) ? -1 : static_cast<double>(row[i].second);
  }
}

Ties ties_of(const BoundGraph& network, const Captured& captured, ThreadPool& pool) {
  const auto& stages = network.graph.stages;
  const bool indexed = std::ranges::any_of(stages, [](const Stage& stage) { return std::holds_alternative<Index>(stage.operation); });
  if (!indexed || !begins_and_follows(captured)) return Ties::kLowest;
  // Where choices were captured, each is judged by its scores, and those are taken that the suspect made.
  const bool told = std::ranges::any_of(stages, [&](const Stage& stage) {
    return std::holds_alternative<Index>(stage.operation) && captured.value(0, stage.outputs[kChoice].name) != nullptr;
  });
  if (told) return Ties::kLowest;
  const Under by_lowest(captured, Ties::kLowest);
  const Under by_torch(captured, Ties::kTorch);
  const Patch nothing;
  Recompute lowest(network, by_lowest, Numerics(Precision::kFp64), pool, nothing);
  Recompute torch(network, by_torch, Numerics(Precision::kFp64), pool, nothing);
  for (int index = 0; index < static_cast<int>(stages.size()); ++index) {
    if (!std::holds_alternative<Index>(stages[static_cast<std::size_t>(index)].operation)) continue;
    const Tensor& a = lowest.computed(0, {index, kChoice});
    const Tensor& b = torch.computed(0, {index, kChoice});
    std::int64_t first = 0;  // token at which the two choose otherwise
    while (first < a.tokens() && same_set(a.row(first), b.row(first)))
      ++first;
    if (first == a.tokens()) continue;
    for (int reader = index + 1; reader < static_cast<int>(stages.size()); ++reader) {
      const Value value{reader, 0};
      const auto held = lowest.captured(0, value);
      if (!held || !network.graph.output(value).per_token || !std::ranges::binary_search(lowest.span_of(0, value), index)) continue;
      const Tensor& from_lowest = lowest.computed(0, value);
      const Tensor& from_torch = torch.computed(0, value);
      if (held->values.shape != from_lowest.shape || held->values.shape != from_torch.shape) continue;
      double to_lowest = 0;
      double to_torch = 0;
      for (std::int64_t t = first; t < held->values.tokens(); ++t) {
        to_lowest += squares_between(held->values.row(t), from_lowest.row(t));
        to_torch += squares_between(held->values.row(t), from_torch.row(t));
      }
      if (to_lowest != to_torch) return to_lowest < to_torch ? Ties::kLowest : Ties::kTorch;
    }
  }
  return Ties::kLowest;
}

}  // namespace plumb
