// The search for causes at one check: every hypothesis about the stages between what was captured and the check is tried,
// alone, then two together. A hypothesis is tried on one stage, on all stages of its role (attn.q_norm of every layer), of its
// family (q_norm and k_norm), of its operation, and on those of them whose conventions are the same.
#pragma once
#include <functional>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

#include "core/thread_pool.h"
#include "parity/checks.h"
#include "parity/hypothesis.h"

namespace plumb {

struct Attempt {
  Hypothesis hypothesis;
  std::vector<int> scope;
  double value = 0;     // of a range
  bool snapped = true;  // the value is one that configurations hold
  bool narrow = false;  // one stage of several of its role
  Residual residual{.relative_l2 = std::numeric_limits<double>::infinity(),
                    .worst_row = 0,
                    .worst_token = 0,
                    .largest = 0,
                    .cosine = 0,
                    .bit_match = 0};
};

// Applies a hypothesis to each stage of the scope that it concerns; false when to none.
bool apply(const BoundGraph& network, const Hypothesis& hypothesis, const std::vector<int>& scope,
           double value, Patch& patch);
bool apply(const BoundGraph& network, const Attempt& candidate, Patch& patch);

// The role of a stage without its layer, and what roles an engine would treat alike.
std::string role_of(const Stage& stage);
std::string family_of(const Stage& stage);

// How much a cause asks to be believed: 0 for a convention with a value that configurations hold.
double complexity(const Attempt& candidate);

// A candidate at one value; a value of its number other than the right one.
Attempt fixed(const Attempt& candidate, double value);
double probe_of(const Hypothesis& hypothesis);

// The cosine of y - f and e - base: of what a base leaves to be explained, and what a cause does.
double along(std::span<const float> y, std::span<const float> f, std::span<const float> e, std::span<const float> base);

class Search {
 public:
  // All must outlive it.
  Search(const BoundGraph& network, const Config& config, ThreadPool& pool, Progress& progress)
      : network_(network), config_(config), pool_(pool), progress_(progress) {}

  // All hypotheses about the check's span.
  std::vector<Attempt> candidates(const Check& check) const;

  // How hard the best value of a number is looked for.
  enum class Effort { kSnaps, kSolve };

  // The residual of one candidate at its best value.
  void measure(const Trial& trial, double good_enough, Attempt& candidate,
               Effort effort = Effort::kSolve) const;
  // `beside` is for people: what else is assumed. `samples` receives a sample of what each candidate computes, at its last value.
  void measure_all(const Trial& trial, double good_enough, std::vector<Attempt>& list,
                   Effort effort = Effort::kSolve, std::string_view beside = {},
                   std::vector<std::vector<float>>* samples = nullptr) const;

  // Two causes that bring the check to `good_enough` together; `measured` holds all candidates under the check's own base. The
  // pairs found first, at most a few.
  std::vector<std::vector<Attempt>> pairs(Checker& checker, const Check& check, const Patch& base,
                                          double good_enough,
                                          const std::vector<Attempt>& measured) const;

  const BoundGraph& network() const { return network_; }
  ThreadPool& pool() const { return pool_; }

 private:
  // All of the list, or, where that takes too many multiplications, those that may explain the check.
  std::vector<Attempt*> likely(const Trial& trial, std::vector<Attempt>& list) const;

  const BoundGraph& network_;
  const Config& config_;
  ThreadPool& pool_;
  Progress& progress_;
};

}  // namespace plumb
