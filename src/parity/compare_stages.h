// The first part of a comparison: stages paired, measured and judged, without R, the tokens chosen and the verdict.
#pragma once
#include "parity/compare.h"

namespace plumb {

// Fills stages, first_fault, transforms, notes and not_observed.
Result<Comparison> compare_stages(const Trace& a, const Trace& b);

}  // namespace plumb
