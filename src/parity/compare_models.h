// Whether two traces are of one model, by the configurations that they carry.
#pragma once
#include <string>
#include <vector>

#include "core/result.h"
#include "parity/trace.h"

namespace plumb {

// An error where the configurations make them other models; what merely differs goes to `notes`.
Status check_models(const Trace& a, const Trace& b, std::vector<std::string>& notes);

// num_hidden_layers of the trace's configuration; 0 where it does not say.
int layers_of(const Trace& trace);

}  // namespace plumb
