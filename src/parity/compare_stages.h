// The first part of a comparison: stages paired, measured and judged, without R, the tokens chosen and the verdict.
#pragma once
#include <cstdint>
#include <set>

#include "parity/compare.h"

namespace plumb {

// Fills stages, first_fault, transforms, notes, not_observed and left_out. Positions of A in `left_out` are not measured.
Result<Comparison> compare_stages(const Trace& a, const Trace& b, const std::set<std::int64_t>& left_out = {});

}  // namespace plumb
