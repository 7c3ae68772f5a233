// Causes under which a token depends on later ones: no prefix shows what they do, so that the ladder of prefixes (ladder.h) cannot find them.
#pragma once
#include <functional>
#include <vector>

#include "parity/search.h"

namespace plumb {

// Whether it is one of those.
bool looks_ahead(const Attempt& attempt);

// Sets of one of them, or of one and another cause, that explain the check: `explains` judges a candidate as it was measured.
std::vector<std::vector<Attempt>> look_ahead(Checker& checker, const Search& search, const Check& check, bool with_another,
                                             const std::function<bool(const Attempt&)>& explains);

}  // namespace plumb
