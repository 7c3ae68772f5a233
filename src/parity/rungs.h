// The rungs of the ladder that need no stage: the prompt, token ids and positions before the network, the choice of tokens and
// the stop after it.
#pragma once
#include <string>
#include <vector>

#include "parity/choice_rows.h"
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

// The suspect's tokens against its own logits or log-probabilities, as the manifest's sampler chooses where it names one. `findings` are of the
// network: logits that cannot be read say nothing of a choice. `vocab` is the number of ids.
RungResult check_sampler(const Captured& suspect, const TraceManifest& manifest, const std::vector<Finding>& findings, std::int64_t vocab,
                          const OwnLogits& own);

// Whether the suspect went on past a stop id, a text or a number of tokens at which it should have stopped, or stopped before.
RungResult check_stop(const Model& model, const Captured& suspect, const TraceManifest& manifest);

}  // namespace plumb
