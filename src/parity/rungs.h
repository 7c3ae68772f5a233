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

// Where the manifest has a prompt and no rendered one, and the ids spell the prompt's words inside of what a chat template prints: the manifest
// with the ids' own text as the rendered prompt.
TraceManifest with_rendered(const Model& model, TraceManifest manifest);

// The text that the engine tokenised, as far as it follows from the prompt.
RungResult check_prompt(const Model& model, const TraceManifest& manifest);

// `right_text`: nothing is known to be wrong with the rendered prompt. What it lacks is no fault of its ids.
RungResult check_token_ids(const Model& model, const TraceManifest& manifest, bool right_text = true);

// The positions that the engine captured as stage "positions" against its passes' own.
RungResult check_positions(const Captured& suspect);

// The suspect's tokens against its own logits. `findings` are of the network: logits that cannot be read say nothing of a choice.
RungResult check_sampler(const Captured& suspect, const TraceManifest& manifest, const std::vector<Finding>& findings);

// Whether the suspect went on past a stop id of the model that its own set lacks.
RungResult check_stop(const Model& model, const TraceManifest& manifest);

}  // namespace plumb
