// From failing checks to causes: hypotheses are tried at the first failing stage until one brings it back to its budget; then
// the same cause is tried wherever else stages fail.
#pragma once
#include <vector>

#include "parity/checks.h"
#include "parity/diagnose.h"
#include "parity/hypothesis.h"

namespace plumb {

struct Explanation {
  std::vector<Finding> findings;
  std::vector<Patch> patches;   // of each finding alone; empty where it is unexplained
  Patch patch;                  // all named causes together, where they apply
};

Explanation explain(Checker& checker, const Config& config, const std::vector<Check>& checks, Progress& progress);
inline Explanation explain(Checker& checker, const Config& config, const std::vector<Check>& checks) {
  Progress untold;
  return explain(checker, config, checks, untold);
}

}  // namespace plumb
