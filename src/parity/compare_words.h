// What a comparison says of its stages taken together: which only one side has, and how the two sides lay theirs out.
#pragma once
#include <string>
#include <vector>

#include "parity/compare.h"
#include "parity/pairing.h"

namespace plumb {

// A sentence for each kind of stage that has no like on the other side, or whose shape has nothing to do with the other's.
std::vector<std::string> unobserved_stages(const Pairing& pairing);

// Each kind of layout and of other name once, with how many stages have it.
std::vector<std::string> transforms_of(const std::vector<ComparedStage>& stages);

}  // namespace plumb
