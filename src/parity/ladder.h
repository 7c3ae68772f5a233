// Causes of a check whose span is long: a block, or the whole network.
#pragma once
#include <cstdint>
#include <vector>

#include "parity/search.h"

namespace plumb {

// Sets of causes under each of which the check is within its budget, the likeliest first; empty when none was found.
//
// In a causal network the first tokens are known from the first ids alone, and few causes show in them: neither rotation nor
// mask nor scale reaches a first token, which sees itself only. So causes are looked for on one token, then on two, three, five
// and so on; a set that explains the shorter part is kept while it does and is given one more cause where it no longer does.
// The rungs below the first token that is wrong are passed over; where few sets are left, the whole is asked at once.
enum class Climb : std::uint8_t {
  kSnaps,  // single causes, with the values that configurations hold
  kAll
};
std::vector<std::vector<Attempt>> climb(Checker& checker, const Search& search,
                                          const Check& check, Climb how);

// Whether a check can be taken on its first tokens.
bool can_climb(const Checker& checker, const Check& check);

}  // namespace plumb
