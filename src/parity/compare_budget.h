// What two right engines may be apart without a checkpoint to measure it on: a model of rounding noise, held to the golden
// traces.
#pragma once
#include <string>
#include <string_view>

#include "parity/trace.h"

namespace plumb {

// The relative rounding unit of a run, by run_type(): 2^-53, 2^-24, 2^-12, 2^-9; of a float32
// run of llama.cpp, and of a profile that multiplies as it or as our cpu executor does, 2^-12: operands are narrower.
double run_unit(const Trace& trace);

// The unit in which two runs may be apart: the coarser's, and 2^-9 where one of them alone rounds operands.
double unit_between(const Trace& a, const Trace& b);

// The word for it: "float32".
std::string run_dtype(const Trace& trace);

// Who computed it and how much of it: "transformers 5.23.0, float32, 79 stages, 2 passes".
std::string run_words(const Trace& trace);

class NoiseModel {
 public:
  explicit NoiseModel(double unit) : unit_(unit) {}

  // The budget of relative L2 of the next stage in the order of execution, which is `role`; `unseen` layers lie between it and
  // the
  // stage before, of which few stages or none were captured.
  double budget(std::string_view role, int unseen) const;

  // What a stage within its budget was apart: later stages carry it.
  void carry(double relative_l2);

  double unit() const { return unit_; }

 private:
  double unit_;
  double carried_ = 0;
};

}  // namespace plumb
