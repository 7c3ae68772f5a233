// What the reference executor computes for the tokens of a trace, as traces: in fp64, and as a correct run in the trace's dtype.
//   PLUMB_TRY(const ReferenceTraces traces, ReferenceTraces::compute(model, a, b, {}));
//   const Reference reference = traces.reference();
#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/result.h"
#include "engine/model.h"
#include "parity/compare.h"
#include "parity/trace.h"

namespace plumb {

struct TemporaryFolder;

struct ReferenceRun {
  int threads = 0;
  std::function<bool(const std::string& words)> progress;  // false cancels
};

class ReferenceTraces {
 public:
  // Runs `model` on the ids that `a` and `b` fed, in one pass and the traces' later passes in others; keeps the stages that
  // they name.
  // The traces lie in a folder for temporary files until this object goes away. An error where neither says its ids, or the ids
  // differ.
  static Result<ReferenceTraces> compute(const Model& model, const Trace& a, const Trace& b,
                                         const ReferenceRun& run);

  // Refers to this object.
  Reference reference() const;

 private:
  std::shared_ptr<TemporaryFolder> folder_;  // removed with the last that holds it
  std::shared_ptr<const Trace> exact_;
  std::shared_ptr<const Trace> like_a_;
  std::shared_ptr<const Trace> like_b_;
};

}  // namespace plumb
