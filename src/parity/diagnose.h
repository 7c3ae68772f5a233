// Diagnosis: from a suspect engine's trace and the checkpoint that it ran, the first stage at fault and the cause. A ladder,
// cheapest first: the prompt, token ids, positions, every captured stage from the suspect's own inputs, the whole network under
// the causes found, the choice of tokens, the stop. Nothing that was not captured is called right: it is listed as not observed.
//   PLUMB_TRY(const Diagnosis diagnosis, diagnose(model, suspect, {.reference = &other}));
// With a trace of the reference implementation, each of the two is judged in this way, and either may be blamed.
#pragma once
#include <memory>
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

// Which of two traces.
enum class Side : std::uint8_t { kSuspect, kReference };
std::string_view to_string(Side side);  // "suspect", "reference"

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

// Another cause that explains the data as well, and what would tell the two apart.
struct Alternative {
  std::string row;
  std::string cause;
  std::string field;
  FieldValue found;
  std::int64_t tokens = 0;         // a prompt of so many tokens tells them apart; 0: none was found
  std::vector<std::int32_t> ids;  // that prompt; empty where its length alone matters
  std::string words;               // the same for people
};

struct Finding {
  Side side = Side::kSuspect;
  std::string stage;  // the first at fault
  std::string row;    // of docs/causes.md; empty when unexplained; "59" of what the reference does wrong
  std::string cause_row;  // the row of the cause itself: `row`, except where that is "59"
  std::string cause;
  std::string field;
  FieldValue expected;
  FieldValue found;
  Evidence evidence;
  bool proved = false;  // the whole network under the causes gives the suspect's logits and tokens
  bool harmless = false;            // no output changes
  std::vector<std::string> also;    // rows that the data cannot tell apart
  std::vector<Alternative> alternatives;  // the causes of those rows, and others of the same row
  std::vector<std::string> stages;  // all outputs that it explains
};

// One step of the ladder.
enum class RungVerdict : std::uint8_t { kOk, kFault, kNotObserved };
std::string_view to_string(RungVerdict verdict);  // "ok", "fault", "not observed"

struct Rung {
  std::string name;  // "prompt", "token ids", "positions", …
  RungVerdict verdict = RungVerdict::kNotObserved;
  std::string why;  // what was seen, or why nothing was
};

// Along the positions, a stage's error over what a right engine may be off by in one row.
struct PositionErrors {
  std::string stage;
  std::int64_t first = 0;
  std::vector<std::optional<double>> ratios;  // by position from `first`; nothing where not captured
};

// Who departs from the checkpoint.
enum class Blame : std::uint8_t { kNeither, kSuspect, kReference, kBothAlike, kBothOtherwise };
std::string_view to_string(Blame blame);  // "neither", "suspect", "reference", "both alike", "both otherwise"

struct Diagnosis {
  Verdict verdict = Verdict::kBenign;
  std::string summary;  // one line
  std::string engine;   // who computed the trace, in words
  std::vector<Finding> findings;
  std::vector<Rung> rungs;  // in the ladder's order
  std::vector<std::string> not_observed;
  std::vector<Check> checks;
  std::vector<PositionErrors> along;  // the first stages at fault (or the nearest to it), then the logits

  // Where there was a trace of the reference: its own diagnosis, who departs, and how the two traces differ, in words.
  std::shared_ptr<const Diagnosis> reference;
  std::optional<Blame> blame;
  std::vector<std::string> differences;
};

struct DiagnoseOptions {
  int threads = 0;
  const Trace* reference = nullptr;  // what the reference implementation computed, to be judged too
  std::vector<std::string> stages;   // patterns: only these stages are judged; none: all
  std::function<void(const std::string& words)> progress;  // what is done now, a few times a second; called from any thread
};

Result<Diagnosis> diagnose(const Model& model, const Trace& suspect,
                           const DiagnoseOptions& options);

}  // namespace plumb
