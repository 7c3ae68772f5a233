// Causes of a check of a large network that shows the last of many tokens alone: nothing less shows what the suspect did, and a
// hypothesis costs seconds.
#pragma once
#include <functional>
#include <optional>
#include <vector>

#include "parity/search.h"

namespace plumb {

inline constexpr double kGreatWork = 1e11;  // multiplications of all candidates
inline constexpr double kImproves = 0.9;    // of the residual: the greater of two causes brings it below by itself

struct Ordered {
  std::vector<std::vector<Attempt>> sets;  // of causes that explain the check
  std::size_t tried = 0;                   // candidates that were evaluated
};

// Candidates are evaluated a few at a time, what engines get wrong most often first: conventions with their other values, in all
// layers. The first that explains the check ends the search, but for those that do the same: they are found on two tokens, against
// what our network computes there under the cause. Where no candidate explains the check, few numbers are solved for, and pairs are
// tried beside causes that bring the residual down by themselves.
// Nothing where evaluating all candidates takes less than `great_work`, or where the check is of a later pass or of few tokens.
// `explains` judges a candidate as it was measured.
std::optional<Ordered> search_in_order(Checker& checker, const Search& search, const Check& check,
                                       const std::function<bool(const Attempt&)>& explains, double great_work = kGreatWork);

}  // namespace plumb
