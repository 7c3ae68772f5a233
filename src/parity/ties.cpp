#include "parity/ties.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <utility>

#include "parity/captured_views.h"
#include "parity/checks.h"
#include "parity/choices.h"

namespace plumb {
namespace {

// What an index chose is left out: our own choices are compared, by the rule.
class Under final : public CapturedView {
 public:
  Under(const Captured& own, const BoundGraph& network, Ties ties) : CapturedView(own), network_(network), ties_(ties) {}
  Ties ties() const override { return ties_; }
  std::shared_ptr<const CapturedValue> value(std::size_t step, std::string_view stage) const override {
    const bool choice = std::ranges::any_of(network_.graph.stages, [&](const Stage& other) {
      return std::holds_alternative<Index>(other.operation) && other.outputs[kChoice].name == stage;
    });
    return choice ? nullptr : CapturedView::value(step, stage);
  }

 private:
  const BoundGraph& network_;
  Ties ties_;
};

// The same entries in any order.
bool same_set(std::span<const double> a, std::span<const double> b) {
  return std::ranges::is_permutation(a, b);
}

std::int64_t common_entries(const Tensor& a, const Tensor& b) {
  std::int64_t count = 0;
  for (std::int64_t t = 0; t < a.tokens(); ++t)
    count += std::ranges::count_if(a.row(t), [&](double entry) { return std::ranges::find(b.row(t), entry) != b.row(t).end(); });
  return count;
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
  // Only residuals are asked for, in exact arithmetic.
  const Arithmetic exact{.type = SuspectType::kFloat32, .formula = Precision::kFp64, .profiles = {Precision::kFp64}};
  const Under by_lowest(captured, network, Ties::kLowest);
  const Under by_torch(captured, network, Ties::kTorch);
  Checker lowest(network, by_lowest, exact, pool);
  Checker torch(network, by_torch, exact, pool);
  for (int index = 0; index < static_cast<int>(stages.size()); ++index) {
    if (!std::holds_alternative<Index>(stages[static_cast<std::size_t>(index)].operation)) continue;
    const Tensor& a = lowest.exact(0, {index, kChoice});
    const Tensor& b = torch.exact(0, {index, kChoice});
    std::int64_t token = 0;
    while (token < a.tokens() && same_set(a.row(token), b.row(token)))
      ++token;
    if (token == a.tokens()) continue;
    // A choice that was captured says so itself; the rule is then for what is run from the ids alone.
    if (const auto held = captured.value(0, stages[static_cast<std::size_t>(index)].outputs[kChoice].name)) {
      if (held->values.shape != a.shape) continue;
      const auto by_number = common_entries(held->values, a);
      const auto by_search = common_entries(held->values, b);
      if (by_number != by_search) return by_number > by_search ? Ties::kLowest : Ties::kTorch;
      continue;
    }
    for (int reader = index + 1; reader < static_cast<int>(stages.size()); ++reader) {
      const Value value{reader, 0};
      if (!network.graph.output(value).per_token || !std::ranges::binary_search(lowest.span_of(0, value), index)) continue;
      for (const Reported as : {Reported::kValues, Reported::kLogprobs}) {
        if (as == Reported::kLogprobs && reader != network.graph.logits.stage) continue;
        const auto to_lowest = lowest.apart(0, value, as);
        const auto to_torch = torch.apart(0, value, as);
        if (to_lowest && to_torch && to_lowest->relative_l2 != to_torch->relative_l2)
          return to_lowest->relative_l2 < to_torch->relative_l2 ? Ties::kLowest : Ties::kTorch;
      }
    }
  }
  return Ties::kLowest;
}

}  // namespace plumb
