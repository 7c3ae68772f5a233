#include "parity/look_ahead.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

#include "parity/ordered_search.h"

namespace plumb {
namespace {

// A block that is not complete yet.
bool sees_blocks_early(const Attempt& attempt) {
  return attempt.hypothesis.field.ends_with(".blocks.ahead");
}

}  // namespace

bool looks_ahead(const Attempt& attempt) {
  const std::string& field = attempt.hypothesis.field;
  return field == "attend.future" || field == "attend.sees_nothing" || field == "attend.soft_cap_place" || sees_blocks_early(attempt);
}

std::vector<std::vector<Attempt>> look_ahead(Checker& checker, const Search& search, const Check& check, bool with_another,
                                             const std::function<bool(const Attempt&)>& explains) {
  std::vector<std::vector<Attempt>> sets;
  auto list = search.candidates(check);
  std::vector<Attempt> ahead;
  std::ranges::copy_if(list, std::back_inserter(ahead), looks_ahead);
  const Trial alone(checker, check, {});
  search.measure_all(alone, check.budget, ahead, Search::Effort::kSnaps);
  if (!with_another) {
    for (const Attempt& attempt : ahead) {
      if (explains(attempt)) sets.push_back({attempt});
    }
    return sets;
  }
  std::erase_if(list, [](const Attempt& other) { return looks_ahead(other) || other.narrow; });
  // Where that is great work, beside one that brings the residual down by itself.
  const bool great = alone.products() * static_cast<double>(list.size()) >= kGreatWork;
  for (const Attempt& attempt : ahead) {
    const double most = great || sees_blocks_early(attempt) ? kImproves * check.residual.relative_l2 : std::numeric_limits<double>::infinity();
    Patch patch;
    if (attempt.narrow || !sets.empty() || attempt.residual.relative_l2 > most || !apply(checker.network(), attempt, patch)) continue;
    auto second = list;
    search.measure_all(Trial(checker, check, patch), check.budget, second, Search::Effort::kSnaps);
    for (const Attempt& other : second) {
      if (explains(other)) sets.push_back({attempt, other});
    }
  }
  return sets;
}

}  // namespace plumb
