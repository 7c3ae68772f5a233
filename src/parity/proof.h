// The counterfactual: the whole network from the ids alone, under the causes found, must give the suspect's logits.
#pragma once
#include <vector>

#include "engine/model.h"
#include "parity/explain.h"

namespace plumb {

// Sets the findings' logits_before, logits_after, proved and harmless. `findings` are `explanation.findings`.
void prove(const Model& model, const Captured& suspect, Checker& checker,
           const Explanation& explanation, std::vector<Finding>& findings);

}  // namespace plumb
