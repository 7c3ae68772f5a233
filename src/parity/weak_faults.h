// Faults smaller than the rounding of two bytes: no stage is beyond its budget, but elements that lie near a step fall to the other
// side of it. Where a profile with a hypothesis and without it says different bits, the suspect has taken a side.
#pragma once
#include <vector>

#include "parity/checks.h"
#include "parity/explain.h"

namespace plumb {

// Adds what is found at checks that are within their budgets.
void add_weak_faults(Checker& checker, const Config& config, const std::vector<Check>& checks, Progress& progress, Explanation& explanation);

}  // namespace plumb
