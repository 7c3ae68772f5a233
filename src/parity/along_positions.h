// Errors along the positions: where in the prompt a stage begins to depart.
#pragma once
#include <vector>

#include "parity/checks.h"
#include "parity/diagnose.h"

namespace plumb {

// Of the first stages beyond their budgets, else of those nearest to it, and of the logits.
std::vector<PositionErrors> along_positions(Checker& checker, const std::vector<Check>& checks);

}  // namespace plumb
