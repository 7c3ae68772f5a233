#include "parity/causes_beside.h"

#include <algorithm>
#include <utility>

#include "parity/attempts.h"

namespace plumb {

std::vector<std::vector<Attempt>> causes_beside(Checker& checker, const Search& search, const Check& check, const Patch& base,
                                                const std::vector<Attempt>& found,
                                                const std::function<bool(const Check& left, const Attempt& candidate)>& explains) {
  constexpr double kRounding = 10;  // budgets, which were measured without the causes
  std::vector<std::vector<Attempt>> sets;
  const Trial trial(checker, check, base);
  Check left = check;
  left.residual = trial.before();
  if (within(left.residual, kRounding * check.budget)) return sets;
  std::vector<Attempt> list;
  for (Attempt& candidate : search.candidates(check)) {
    const auto same = [&](const Attempt& other) { return other.hypothesis.field == candidate.hypothesis.field; };
    if (candidate.narrow || std::ranges::any_of(found, same)) continue;
    candidate.scope = stages_alike(search.network(), candidate.scope);
    list.push_back(std::move(candidate));
  }
  const auto measure = [&](Search::Effort effort) {
    search.measure_all(trial, check.budget, list, effort);
    for (const Attempt& candidate : list) {
      if (explains(left, candidate)) sets.push_back({candidate});
    }
  };
  measure(Search::Effort::kSnaps);
  if (!sets.empty()) return sets;
  std::erase_if(list, [](const Attempt& candidate) { return !candidate.hypothesis.later; });  // numbers of what a cache holds
  measure(Search::Effort::kSolve);
  return sets;
}

}  // namespace plumb
