// Other runs of a right engine in two bytes. One run of ours is one drawing of rounding errors. Where few numbers decide an error (one
// token's weights of experts, a softmax with one large score, keys that all of a prompt's layers made), another right run errs several
// times as much: the ratio of two such errors is heavy-tailed. These are drawn anew, from values that lie within half a step of the captured
// ones, in each of the profiles, and with a bias added to a product that was rounded before, as engines without a fused kernel do.
#pragma once
#include <memory>
#include <vector>

#include "parity/captured_views.h"
#include "parity/profiles.h"
#include "parity/recompute.h"

namespace plumb {

class OtherRuns {
 public:
  // The largest of eight drawings of a single Gaussian number is below half its deviation once in 2,000 times.
  static constexpr int kCount = 8;

  // All arguments must outlive it.
  OtherRuns(const BoundGraph& network, const Captured& captured, const Arithmetic& arithmetic, ThreadPool& pool);

  // Of one run, made when it is first asked for: without rounding, and with it.
  Recompute& exact(int run) { return at(run).exact; }
  Recompute& rounded(int run) { return at(run).rounded; }

 private:
  struct Run {
    Run(const OtherRuns& all, int number);
    Jittered captured;
    Patch exact_patch;
    Patch rounded_patch;
    Recompute exact;
    Recompute rounded;
  };
  Run& at(int run);
  Patch patch_of(int number, bool rounds) const;

  const BoundGraph& network_;
  const Captured& captured_;
  const Arithmetic& arithmetic_;
  ThreadPool& pool_;
  std::vector<std::unique_ptr<Run>> runs_;
};

}  // namespace plumb
