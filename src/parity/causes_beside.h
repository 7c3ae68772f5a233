// Causes of a value in a later pass that depends on what earlier passes left, where nobody captured them and faults that are known sit in them.
#pragma once
#include <functional>
#include <vector>

#include "parity/search.h"

namespace plumb {

// Sets of one cause each, of what the value remembers or of what made it, in all layers, beside `found`; none where these leave no more than rounding.
// `base`: what was found, in all layers. `explains` judges a candidate by the check with the residual that the base leaves.
std::vector<std::vector<Attempt>> causes_beside(Checker& checker, const Search& search, const Check& check, const Patch& base,
                                                const std::vector<Attempt>& found,
                                                const std::function<bool(const Check& left, const Attempt& candidate)>& explains);

}  // namespace plumb
