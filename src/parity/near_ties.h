// Choices that rounding decides. Where a router or an index scores two entries nearly alike, a right engine takes either, and one token's expert or
// block is another than ours: an error of that token's whole size, which no budget of rounding covers. Where the choice itself was not captured, what
// follows from it tells which one the engine took.
#pragma once
#include <cstdint>
#include <vector>

#include "parity/checks.h"

namespace plumb {

// Exchanges, in what `stage` chose, each entry that the suspect left for the one it took instead, while their scores lie as near as they did. `preferences`
// of other steps and stages are passed over.
void take_preferred(const Stage& stage, int index, std::size_t step, std::span<const Preference> preferences, const StageOperands& operands,
                    const StageContext& context, std::vector<Tensor>& outputs);

// What the suspect took, as far as values told by `checks` that fail become right under it: each of a check's wrong rows, in order, until one does not.
std::vector<Preference> preferences_of(const BoundGraph& network, const Captured& captured, const Arithmetic& arithmetic, ThreadPool& pool,
                                       const std::vector<Check>& checks);

}  // namespace plumb
