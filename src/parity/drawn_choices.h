// Tokens that were drawn: how likely they are under a temperature, the cuts that samplers make, and penalties.
#pragma once
#include <optional>

#include "parity/choice_rows.h"
#include "parity/declared_sampler.h"
#include "parity/diagnose.h"

namespace plumb {

// The temperature under which the tokens are most likely.
double likely_temperature(const Choices& choices, const Penalty& penalty);

// A penalty under which the tokens are so much more likely than under `named` that chance does not explain it, each at the temperature that suits it.
std::optional<Penalty> likely_penalty(const Choices& choices, const Penalty& named = {});

// A token that a cut named by the trace leaves out, in either order of cuts and temperature.
std::optional<Finding> cut_not_applied(const Choices& choices, const DeclaredSampler& sampler, const Penalty& penalty);

// Where the tokens are much more likely under another temperature than under the one that the trace names.
std::optional<Finding> other_temperature(const Choices& choices, const DeclaredSampler& sampler, const Penalty& penalty);

}  // namespace plumb
