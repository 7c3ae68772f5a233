// What of a trace is judged: which tokens of its batch are padding, and whether the prompt's own tokens attend to them.
#pragma once
#include <memory>
#include <optional>

#include "parity/alignment.h"
#include "parity/checks.h"
#include "parity/diagnose.h"
#include "parity/fitted_trace.h"

namespace plumb {

class SuspectView {
 public:
  // `model` and `pool` must outlive it.
  SuspectView(const Model& model, const Trace& trace, const Padding& padding, ThreadPool& pool);

  const Padding& padding() const { return padding_; }
  const Trace& trace() const { return fitted_.trace; }
  const TraceManifest& manifest() const { return fitted_.trace.manifest(); }
  const std::vector<std::string>& misfits() const { return fitted_.misfits; }
  const AlignedTrace& aligned() const { return aligned_; }
  Checker& checker() { return *checker_; }
  std::vector<Check>& checks() { return checks_; }
  // Checks all that `wanted` names (null: everything). Where checks fail, choices that rounding decides are taken as the suspect made them.
  void check(const std::function<bool(const std::string& output)>& wanted, Progress& progress);
  const std::vector<Check>& checks() const { return checks_; }

 private:
  Padding padding_;
  FittedTrace fitted_;
  AlignedTrace aligned_;
  const BoundGraph& network_;
  ThreadPool& pool_;
  std::optional<Checker> checker_;
  std::vector<Check> checks_;  // of check()
};

struct ChosenView {
  std::unique_ptr<SuspectView> view;
  std::optional<Finding> attended;  // the prompt's tokens attend to padding; the view then holds it
  TraceManifest prompt;             // the manifest without padding
  std::string note;                 // what was cut, in words; "" for nothing
};

// Every reading of the trace that its ids and shapes allow is checked; the one that most checks pass is the trace's. Padding that a
// right engine masks is cut. Where the values are right only with the padding among the tokens, it is a fault (row 44).
ChosenView choose_view(const Model& model, const Trace& trace, const std::function<bool(const std::string& output)>& wanted,
                       Progress& progress, ThreadPool& pool);

}  // namespace plumb
