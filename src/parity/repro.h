// The smallest case that shows a fault, as a folder: what was captured around the stage, of the fewest passes and tokens under which
// the diagnosis names the same cause, and the one command that replays it.
//   DIR/case.trace   the part of the trace
//   DIR/replay.sh    the command; its first argument names the checkpoint when it lies elsewhere
//   DIR/README.md    the finding, and what of the checkpoint it needs
#pragma once
#include <filesystem>
#include <optional>
#include <string>

#include "parity/diagnose.h"

namespace plumb {

struct ReproRequest {
  std::filesystem::path folder;
  std::filesystem::path model;                  // where the checkpoint lies
  std::optional<std::filesystem::path> config;  // in place of its config.json
  int threads = 0;
};

struct Repro {
  std::string stage;         // of the finding
  std::int64_t tokens = 0;   // of the case
  std::int64_t of_tokens = 0;  // of the trace
  std::size_t tensors = 0;
};

// An error names a folder that is there already. The folder appears under its name when it is complete.
Status check_repro_target(const std::filesystem::path& folder);

// Of the first finding that reaches an output, else of the first. `trace` is the trace of that finding's side: the suspect's, or the
// reference's. An error when there is no finding.
Result<Repro> write_repro(const Model& model, const Trace& trace, const Diagnosis& diagnosis, const ReproRequest& request);

// The finding that a case is made of; null where there is none.
const Finding* finding_to_show(const Diagnosis& diagnosis);

}  // namespace plumb
