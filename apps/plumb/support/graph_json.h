// Stages and conventions as JSON.
#pragma once
#include "graph/print.h"
#include "support/json.h"

namespace plumb {

Json field_json(const FieldValue& value);  // null: not set

Json state_json(const State& state);

// {"name", "layer", "operation", "inputs", "params", "states", "outputs": [{"name", "shape", "per_token"}], "conventions": {…}}; an axis that grows
// with the sequence is -1.
Json stage_json(const Graph& graph, const Stage& stage);

}  // namespace plumb
