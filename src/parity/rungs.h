// The rungs of the diagnosis that need no stage: token ids before the network, the choice of tokens and the stop after it.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "parity/diagnose.h"

namespace plumb {

// Findings; each adds to `not_observed` what it could not see.
std::vector<Finding> check_token_ids(const Model& model, const TraceManifest& manifest,
                                     std::vector<std::string>& not_observed);

// The suspect's tokens against its own logits. `logits_right`: whether the logits themselves passed.
std::vector<Finding> check_sampler(const Captured& suspect, const TraceManifest& manifest,
                                   std::vector<std::string>& not_observed);

// Whether the suspect went on past a stop id of the model that its own set lacks.
std::vector<Finding> check_stop(const Model& model, const TraceManifest& manifest,
                                std::vector<std::string>& not_observed);

}  // namespace plumb
