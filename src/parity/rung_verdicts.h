// The ladder's verdicts: what the checks of stages, and the rungs before and after the network, say of each step.
#pragma once
#include <vector>

#include "parity/rungs.h"

namespace plumb {

// What the rungs that need no stage have said.
struct OuterRungs {
  Rung prompt;
  Rung token_ids;
  Rung positions;
  Rung sampler;
  Rung stop;
};

// Prompt, token ids, positions, weights, embedding, stages, state across steps, logits, sampler, stop. `findings` are of the
// network's stages.
std::vector<Rung> ladder_of(const BoundGraph& network, const std::vector<Check>& checks,
                            const std::vector<Finding>& findings, std::size_t passes,
                            const OuterRungs& outer);

}  // namespace plumb
