// The rungs of the ladder that need no stage: the prompt, token ids and positions before the network, the choice of tokens and
// the stop after it.
#pragma once
#include <string>
#include <vector>

#include "parity/diagnose.h"

namespace plumb {

struct RungResult {
  Rung rung;
  std::vector<Finding> findings;
};

// The text that the engine tokenised, as far as it follows from the prompt.
RungResult check_prompt(const Model& model, const TraceManifest& manifest);

RungResult check_token_ids(const Model& model, const TraceManifest& manifest);

// The positions that the engine captured as stage "positions" against its passes' own.
RungResult check_positions(const Captured& suspect);

// The suspect's tokens against its own logits. `findings` are of the network: logits that cannot be read say nothing of a choice.
RungResult check_sampler(const Captured& suspect, const TraceManifest& manifest, const std::vector<Finding>& findings);

// Whether the suspect went on past a stop id of the model that its own set lacks.
RungResult check_stop(const Model& model, const TraceManifest& manifest);

}  // namespace plumb
