// What is asked of causes that were tried.
#pragma once
#include <vector>

#include "parity/checks.h"
#include "parity/search.h"

namespace plumb {

// What stands in place of the convention: the number that was solved for, where there is one.
FieldValue found_by(const Attempt& cause);

// Whatever the stages at which they are tried.
bool same_cause(const Attempt& a, const Attempt& b);

// All of the causes, each once at each stage: some exchange what they find there, and would exchange it back.
Patch together(const BoundGraph& network, const std::vector<Attempt>& causes);

// Whether most rows are right under a cause that rounds, and few are without it. Where a row's sum is rounded, an engine that adds in another
// order moves a whole row by a step, and a few such rows are most of what is left.
// `base`: what is known besides, part of the patch.
bool most_rows_right(Checker& checker, const Check& check, const Patch& patch, const Patch& base = {});

// The stages of the same roles in all layers.
std::vector<int> stages_alike(const BoundGraph& network, const std::vector<int>& scope);

// The stages of another check's span that the cause concerns: those of the same role; where there is none, in a short span, those of the same
// operation. `found`: all causes so far.
std::vector<int> stages_concerned(const BoundGraph& network, const Check& check, const Attempt& candidate, const std::vector<Attempt>& found);

// Whether the check depends on what earlier passes left, and that on what one of `stages` computed there, which nobody captured.
bool remembers_what_is_of(const Checker& checker, const Check& check, const std::vector<int>& stages);

// Whether the causes change stages besides those at which they are tried, and one of `checks` says that these are as they should be.
bool contradicted(Checker& checker, const std::vector<Check>& checks, const std::vector<Attempt>& causes);

}  // namespace plumb
