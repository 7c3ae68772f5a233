// Two traces of one checkpoint: each has been judged against fp64 recomputation from its own inputs; here is said which of them
// departs, and how the two differ.
#pragma once
#include "parity/diagnose.h"

namespace plumb {

// The suspect's diagnosis with the reference's findings behind its own: row 59, the row of the cause in `cause_row`. The verdict
// is that of the side which is worse off; a reference that cannot be judged leaves the suspect's verdict.
Diagnosis blame(Diagnosis suspect, Diagnosis reference, const Trace& suspect_trace, const Trace& reference_trace);

// "layers.0.attn.q_norm: the norm's epsilon is wrong (row 21; expected 1e-06, found 1e-05)".
std::string finding_words(const Finding& finding);

}  // namespace plumb
