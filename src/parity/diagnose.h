// Diagnosis: from a suspect engine's trace and the checkpoint that it ran, the first stage at fault and the cause. A ladder,
// cheapest first: token ids, every captured stage from the suspect's own inputs, the whole network under the causes found, the
// choice of tokens, the stop. Nothing that was not captured is called right: it is listed as not observed.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"
#include "engine/model.h"
#include "graph/print.h"
#include "parity/checks.h"
#include "parity/trace.h"

namespace plumb {

enum class Verdict : std::uint8_t {
  kFault,
  kBenign,
  kSampler,
  kStop,
  kTokens,
  kUnexplained,
  kIncomparable
};
std::string_view to_string(Verdict verdict);  // "fault", …

struct Evidence {
  double residual_before = 0;  // relative L2 at the stage, to fp64 from the suspect's own inputs
  double residual_after = 0;   // under the cause
  double budget = 0;           // of a right engine in the suspect's dtype
  double bit_match_before = 0;
  double bit_match_after = 0;
  std::int64_t rejected = 0;  // hypotheses tried at the stage that do not explain it
  std::optional<double>
      logits_before;  // relative L2 of the suspect's logits to the reference's, over the whole network
  std::optional<double> logits_after;  // to ours under all causes found
};

struct Finding {
  std::string stage;  // the first at fault
  std::string row;    // of docs/causes.md; empty when unexplained
  std::string cause;
  std::string field;
  FieldValue expected;
  FieldValue found;
  Evidence evidence;
  bool proved = false;  // the whole network under the causes gives the suspect's logits and tokens
  bool harmless = false;            // no output changes
  std::vector<std::string> also;    // rows that the data cannot tell apart
  std::vector<std::string> stages;  // all outputs that it explains
};

struct Diagnosis {
  Verdict verdict = Verdict::kBenign;
  std::string summary;  // one line
  std::vector<Finding> findings;
  std::vector<std::string> not_observed;
  std::vector<Check> checks;
};

struct DiagnoseOptions {
  int threads = 0;
  std::function<void(std::size_t done, std::size_t all)> progress;
};

Result<Diagnosis> diagnose(const Model& model, const Trace& suspect,
                           const DiagnoseOptions& options);

// {"verdict": …, "findings": […], "not_observed": […]}, indented.
std::string to_json(const Diagnosis& diagnosis);

}  // namespace plumb
