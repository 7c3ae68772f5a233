// Checks: every captured value against the same stage recomputed in fp64 from the suspect's own inputs, with a budget: how far a
// right engine of the suspect's dtype may be.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "core/result.h"
#include "parity/other_runs.h"
#include "parity/profiles.h"
#include "parity/progress.h"
#include "parity/recompute.h"
#include "parity/residual.h"

namespace plumb {

// What of a stage's output the suspect reported.
enum class Reported : std::uint8_t {
  kValues,
  kLogprobs,  // log-probabilities of the ids that it names, as an interface reports them
};

struct Check {
  std::size_t step;
  Value value;
  std::string stage;      // the output's name
  Residual residual;      // to the formula: fp64, or what llama.cpp's operands make of it
  double budget;          // of residual.relative_l2
  std::vector<int> span;  // stages recomputed, down to captured ones
  bool fails;
  bool exact = false;  // of ids: compared as choices
  Reported reported = Reported::kValues;
  Precision profile = Precision::kFp32;  // that rounds most as the suspect does
  double bit_match = 0;                  // with it
};

class Checker {
 public:
  Checker(const BoundGraph& network, const Captured& captured, Arithmetic arithmetic, ThreadPool& pool);

  // From here on run() looks at these outputs alone.
  void keep_to(std::function<bool(const std::string& output)> wanted) {
    wanted_ = std::move(wanted);
  }

  // All captured values, in the order of execution; not what is fed: ids and positions.
  std::vector<Check> run(Progress& progress);
  std::vector<Check> run() {
    Progress untold;
    return run(untold);
  }

  // The check of one output in one step; nothing when it was not captured, or in a shape that is not the stage's.
  std::optional<Check> check(std::size_t step, Value value, Reported reported);

  // What was reported of a value, and what is recomputed for it; neither judged nor compared.
  std::optional<Check> unjudged(std::size_t step, Value value, Reported reported);
  // The residual that check() would have, without its budget.
  std::optional<Residual> apart(std::size_t step, Value value, Reported reported);
  // Every row of our output, in the formula; the stages that are recomputed for it.
  const Tensor& exact(std::size_t step, Value value) { return exact_.computed(step, value); }
  std::vector<int> span_of(std::size_t step, Value value) { return exact_.span_of(step, value); }

  // The residual of one check under a patch.
  Residual under(const Check& check, const Patch& patch);
  // What a right engine under the patch may be off by at the check.
  double budget_under(const Check& check, const Patch& patch);
  // The output in the check's profile under the patch, as the suspect would report it.
  Tensor rounded(const Check& check, const Patch& patch);
  // What the suspect reported of the check's output, and the same of ours: the last rows where it has fewer.
  Tensor computed(const Check& check, const Patch& patch);
  const Tensor& suspect(const Check& check);
  // How far each of its rows is off, relative to the norm.
  std::vector<double> row_errors(const Check& check);
  // Every row of our output, whatever the suspect reported of it; the ids whose log-probabilities it reported [tokens, k].
  Tensor whole(const Check& check, const Patch& patch);
  const Tensor& reported_ids(const Check& check) const {
    return reported_ids_.at(check.step)->values;
  }

  const BoundGraph& network() const { return network_; }
  const Captured& captured() const { return captured_; }
  const Arithmetic& arithmetic() const { return arithmetic_; }
  SuspectType type() const { return arithmetic_.type; }
  // The profile in which the whole network comes nearest to the suspect's: by most checks of run(), or the engine's own.
  Precision profile() const { return profile_; }
  ThreadPool& pool() const { return pool_; }

 private:
  friend class Trial;
  using Key = std::tuple<std::size_t, int, int, Reported>;

  double budget(const Check& check, const Tensor& exact, const Tensor& rounded) const;
  Recompute& run_in(Precision profile);
  void choose_profile(Check& check);
  void draw_again(Check& check);
  std::shared_ptr<const Tensor> report(std::size_t step, Value value, Reported reported);
  Tensor reported(const Check& check, const Tensor& computed) const;
  // How far the suspect's report is from what `recompute` says.
  Residual compared(const Check& check, Recompute& recompute) const;
  const BoundGraph& network_;
  const Captured& captured_;
  std::unique_ptr<const Captured> jittered_;  // where values were narrowed
  Arithmetic arithmetic_;
  ThreadPool& pool_;
  std::function<bool(const std::string& output)> wanted_;
  Patch nothing_;
  Precision profile_;
  Recompute exact_;                 // in the formula
  std::vector<Recompute> rounded_;  // in each profile
  OtherRuns others_;                // for checks near their budgets
  std::map<Key, std::shared_ptr<const Tensor>> reports_;
  std::map<std::size_t, std::shared_ptr<const CapturedValue>> reported_ids_;
};

// One check under many patches, from a common one: what they do not change is computed once.
class Trial {
 public:
  // `checker` and `check` must outlive it, and not be used while patches are tried.
  Trial(Checker& checker, const Check& check, Patch base);

  const Check& check() const { return check_; }
  const Patch& base() const { return base_; }
  const Residual& before() const { return before_; }  // under the base alone
  std::int64_t known_tokens() const;                  // fed when the check's pass ends

  struct Question {
    Patch patch;                   // contains the base
    const std::set<int>* touched;  // the stages at which it says something else
  };
  struct Answer {
    Residual residual;
    std::vector<float> sample;  // of what was computed, where samples are asked for
  };
  // How many patches are best evaluated together: one reading of a weight serves all of their tokens.
  std::size_t lanes() const;
  // Multiplications of one evaluation in which every stage differs.
  double products() const;
  // The answer under each patch. Any number of threads may ask at once.
  std::vector<Answer> under(std::span<const Question> questions, bool samples = false) const;

  // The same check of fewer tokens, right under the base: a patch under which it is wrong is not tried on all of them.
  void screen_by(std::unique_ptr<const Trial> fewer) { screens_.push_back(std::move(fewer)); }

  // Elements from all over the check's values: as the suspect has them, and under the base.
  std::vector<float> sample_of_suspect() const;
  std::vector<float> sample_of_base() const { return base_sample_; }

 private:
  void plan();
  std::vector<Answer> unscreened(std::span<const Question* const> questions, bool samples) const;

  Checker& checker_;
  const Check& check_;
  Patch base_;
  mutable ThreadPool serial_;
  Recompute recompute_;
  Residual before_{};
  std::vector<std::vector<int>> stages_;    // of each pass up to the check's: what is computed, in order
  std::vector<std::unique_ptr<const Trial>> screens_;
  std::vector<float> base_sample_;
  std::vector<std::vector<int>> finished_;  // behind each stage of the check's pass: those that nothing asks for any more
};

}  // namespace plumb
