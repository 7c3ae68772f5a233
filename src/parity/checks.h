// Checks: every captured value against the same stage recomputed in fp64 from the suspect's own inputs, with a budget: how far a
// right engine of the suspect's dtype may be.
#pragma once
#include <string>
#include <vector>

#include "core/result.h"
#include "parity/recompute.h"
#include "parity/residual.h"

namespace plumb {

struct Check {
  std::size_t step;
  Value value;
  std::string stage;      // the output's name
  Residual residual;      // to fp64
  double budget;          // of residual.relative_l2
  std::vector<int> span;  // stages recomputed, down to captured ones
  bool fails;
  bool exact = false;  // of ids: compared as choices
};

// The arithmetic in which the suspect ran.
enum class SuspectType : std::uint8_t { kFloat32, kBfloat16, kFloat16 };

// By the manifest's dtype, or by what most captured values are held in.
SuspectType suspect_type(const std::string& manifest_dtype, const std::vector<DType>& held);

class Checker {
 public:
  Checker(const BoundGraph& network, const Captured& captured, SuspectType type, ThreadPool& pool);

  // All captured values, in the order of execution.
  std::vector<Check> run(const std::function<void(std::size_t done, std::size_t all)>& progress);

  // The residual of one check under a patch.
  Residual under(const Check& check, const Patch& patch);
  Tensor computed(const Check& check, const Patch& patch);
  const Tensor& suspect(const Check& check);

  const BoundGraph& network() const { return network_; }
  const Captured& captured() const { return captured_; }
  SuspectType type() const { return type_; }
  ThreadPool& pool() const { return pool_; }

 private:
  double budget(const Operation& operation, const Tensor& exact, const Tensor& rounded) const;

  const BoundGraph& network_;
  const Captured& captured_;
  SuspectType type_;
  ThreadPool& pool_;
  Patch nothing_;
  Recompute exact_;
  Recompute rounded_;
};

}  // namespace plumb
