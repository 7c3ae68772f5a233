// Parts of hypotheses_about() beside those of hypothesis.h: by what a cache of keys and values holds in later passes, by the function inside a
// gate, and by how stored codes are read.
#pragma once
#include "parity/hypothesis.h"

namespace plumb {

std::vector<Hypothesis> cache_hypotheses();  // of a stage that attends
std::vector<Hypothesis> activation_hypotheses(const BoundGraph& network, int index);
std::vector<Hypothesis> stored_hypotheses(const BoundGraph& network, int index);

}  // namespace plumb
