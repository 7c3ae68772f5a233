// A few candidates at a time, the likeliest first.
#include "parity/ordered_search.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "parity/captured_views.h"

namespace plumb {
namespace {

constexpr std::size_t kGroup = 6;       // evaluated before it is asked whether one explains the check

// The first tokens of the suspect's prompt with what our network computes of one value under a cause.
class AsUnder final : public FirstTokens {
 public:
  AsUnder(Checker& checker, const Check& check, const Patch& patch, std::int64_t tokens)
      : FirstTokens(checker.captured(), tokens), stage_(checker.network().graph.output(check.value).name) {
    const IdsOnly ids(*this);
    Recompute recompute(checker.network(), ids, Numerics(checker.arithmetic().formula), checker.pool(), patch);
    value_ = std::make_shared<CapturedValue>(CapturedValue{recompute.computed(0, check.value), DType::kF64});
  }
  std::shared_ptr<const CapturedValue> value(std::size_t, std::string_view stage) const override {
    return stage == stage_ ? value_ : nullptr;
  }

 private:
  std::string stage_;
  std::shared_ptr<const CapturedValue> value_;
};

// What the reports of wrong engines are about most often.
constexpr std::string_view kOften[] = {"rope.pairing",      "rope.frequencies.theta", "norm.eps",           "attend.scale",      "gated.activation",
                                       "attend.groups",     "attend.key_head",        "norm.weight_offset", "norm.present",      "rope.present",
                                       "rope.positions",    "rope.position_offset",   "attend.window",      "attend.future",     "router.order",
                                       "router.renormalise", "linear.order",          "linear.fused_order", "gated.order",       "embed.scale"};

// The commonest first; of the scopes of one cause, the widest.
void sort_by_likelihood(std::vector<Attempt>& list) {
  constexpr double kNarrow = 5;
  constexpr double kCommon = -1;
  constexpr double kOtherScope = 0.5;
  const auto key = [](const Attempt& a) { return a.hypothesis.field + "=" + to_string(a.hypothesis.found); };
  std::ranges::stable_sort(list, std::greater<>(), [](const Attempt& a) { return a.scope.size(); });
  std::map<std::string, int> scopes;
  std::vector<std::pair<double, std::size_t>> order;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const int place = scopes[key(list[i])]++;
    order.emplace_back(complexity(list[i]) + (list[i].narrow ? kNarrow : 0) +
                           (std::ranges::find(kOften, list[i].hypothesis.field) != std::end(kOften) ? kCommon : 0) + kOtherScope * place, i);
  }
  std::ranges::stable_sort(order, {}, &std::pair<double, std::size_t>::first);
  std::vector<Attempt> sorted;
  for (const auto& [rank, i] : order)
    sorted.push_back(std::move(list[i]));
  list = std::move(sorted);
}

class OrderedSearch {
 public:
  OrderedSearch(Checker& checker, const Search& search, const Check& check, std::vector<Attempt> list,
                const std::function<bool(const Attempt&)>& explains)
      : checker_(checker), search_(search), check_(check), whole_(checker, check, {}), list_(std::move(list)), explains_(explains) {
    sort_by_likelihood(list_);
    effects_.resize(list_.size());
  }

  Ordered run() {
    std::size_t next = 0;
    while (next < list_.size() && found_.sets.empty()) {
      const std::size_t end = std::min(next + kGroup, list_.size());
      std::vector<Attempt> some(list_.begin() + static_cast<std::ptrdiff_t>(next), list_.begin() + static_cast<std::ptrdiff_t>(end));
      std::vector<std::vector<float>> samples;
      evaluate(some, Search::Effort::kSnaps, fmt::format(", {} to {} of {}", next + 1, end, list_.size()), &samples);
      std::ranges::move(some, list_.begin() + static_cast<std::ptrdiff_t>(next));
      std::ranges::move(samples, effects_.begin() + static_cast<std::ptrdiff_t>(next));
      next = end;
    }
    found_.tried = next;
    if (!found_.sets.empty()) {
      alike(next);
    } else {
      solve();
      if (found_.sets.empty()) pairs();
    }
    return std::move(found_);
  }

 private:
  void evaluate(std::vector<Attempt>& some, Search::Effort effort, const std::string& which, std::vector<std::vector<float>>* samples) {
    search_.measure_all(whole_, check_.budget / 4, some, effort, which, samples);
    for (const Attempt& candidate : some) {
      if (explains_(candidate)) found_.sets.push_back({candidate});
    }
  }

  // Of the candidates that were not evaluated, those that do on two tokens what the cause that was found does.
  void alike(std::size_t from) {
    constexpr std::int64_t kTokens = 2;
    constexpr double kSame = 100;  // budgets: what two tokens hardly tell apart, many may not
    constexpr double kPart = 0.1;  // of what the cause does there
    Patch patch;
    apply(search_.network(), found_.sets[0][0], patch);
    const AsUnder suspect(checker_, check_, patch, kTokens);
    Checker few(checker_.network(), suspect, checker_.arithmetic(), checker_.pool());
    const auto few_check = few.check(0, check_.value, Reported::kValues);
    if (!few_check) return;
    std::vector<Attempt> rest(list_.begin() + static_cast<std::ptrdiff_t>(from), list_.end());
    const Trial look(few, *few_check, {});
    const double same_as = std::max(few_check->budget, std::min(kSame * few_check->budget, kPart * look.before().relative_l2));
    search_.measure_all(look, 0, rest, Search::Effort::kSnaps, ", whether they do the same");
    std::vector<Attempt> same;
    for (std::size_t i = 0; i < rest.size(); ++i) {
      if (rest[i].residual.relative_l2 <= same_as) same.push_back(list_[from + i]);
    }
    found_.tried += same.size();
    evaluate(same, Search::Effort::kSnaps, ", that do the same on two tokens", nullptr);
  }

  // Numbers that move the output along what is to be explained: not all of them, a value costs as much as any hypothesis.
  void solve() {
    constexpr std::size_t kNumbers = 4;
    constexpr double kAlong = 0.3;  // cosine
    const auto suspect = whole_.sample_of_suspect();
    const auto base = whole_.sample_of_base();
    std::vector<std::pair<double, std::size_t>> order;
    for (std::size_t i = 0; i < list_.size(); ++i) {
      const double cosine = list_[i].hypothesis.range ? std::abs(along(suspect, base, effects_[i], base)) : 0;
      if (cosine >= kAlong) order.emplace_back(-cosine, i);
    }
    std::ranges::stable_sort(order);
    if (order.size() > kNumbers) order.resize(kNumbers);
    std::vector<Attempt> numbers;
    for (const auto& [cosine, i] : order)
      numbers.push_back({.hypothesis = list_[i].hypothesis, .scope = list_[i].scope, .narrow = list_[i].narrow});
    evaluate(numbers, Search::Effort::kSolve, "", nullptr);
  }

  void pairs() {
    constexpr std::size_t kLeads = 3;
    std::vector<Attempt> leads;
    for (const Attempt& candidate : list_) {
      if (candidate.residual.relative_l2 <= kImproves * whole_.before().relative_l2) leads.push_back(candidate);
    }
    std::ranges::stable_sort(leads, {}, [](const Attempt& a) { return a.residual.relative_l2; });
    if (leads.size() > kLeads) leads.resize(kLeads);
    for (const Attempt& lead : leads) {
      Patch with;
      if (!apply(search_.network(), lead, with)) continue;
      const Trial trial(checker_, check_, std::move(with));
      for (std::size_t next = 0; next < list_.size(); next += kGroup) {
        std::vector<Attempt> seconds;
        for (std::size_t i = next; i < std::min(next + kGroup, list_.size()); ++i) {
          if (list_[i].hypothesis.field != lead.hypothesis.field && !list_[i].narrow)
            seconds.push_back({.hypothesis = list_[i].hypothesis, .scope = list_[i].scope});
        }
        search_.measure_all(trial, check_.budget / 4, seconds, Search::Effort::kSnaps, ", beside another");
        for (const Attempt& second : seconds) {
          if (explains_(second)) found_.sets.push_back({lead, second});
        }
        if (!found_.sets.empty()) return;
      }
    }
  }

  Checker& checker_;
  const Search& search_;
  const Check& check_;
  const Trial whole_;
  std::vector<Attempt> list_;
  const std::function<bool(const Attempt&)>& explains_;
  std::vector<std::vector<float>> effects_;  // of each of the list
  Ordered found_;
};

}  // namespace

std::optional<Ordered> search_in_order(Checker& checker, const Search& search, const Check& check,
                                       const std::function<bool(const Attempt&)>& explains, double great_work) {
  constexpr std::int64_t kTokens = 8;
  const TraceStep& pass = checker.captured().steps()[check.step];
  if (check.step != 0 || pass.count < kTokens) return std::nullopt;
  auto list = search.candidates(check);
  if (Trial(checker, check, {}).products() * static_cast<double>(list.size()) < great_work) return std::nullopt;
  return OrderedSearch(checker, search, check, std::move(list), explains).run();
}

}  // namespace plumb
