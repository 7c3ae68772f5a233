// plumb diagnose: the first stage at which an engine departs from a checkpoint, and why.
#include "parity/diagnose.h"

#include <fmt/format.h>

#include "support/command.h"
#include "support/terminal.h"

namespace plumb {
namespace {

constexpr std::string_view kDetails = R"(Examples:
  plumb diagnose suspect.trace --model path/to/checkpoint
  plumb diagnose suspect.trace --model path/to/checkpoint --json | jq '.findings[0].cause'

A trace is a folder with manifest.json and tensors.safetensors (docs/trace-format.md): what the suspect engine computed. Every
captured stage is recomputed in fp64 from the suspect's own captured inputs, so that one fault does not hide another; at a stage
beyond its budget every convention is tried with its other values and numbers are solved for; the causes found are proved by
running the whole network under them. docs/causes.md lists the rows.

Exit codes: 0 nothing wrong, or nothing that reaches an output; 1 a fault; 2 the question could not be answered.
)";

constexpr int kDiffer = 1;
constexpr int kUnanswered = 2;

struct Options {
  std::string trace;
  std::optional<std::string> model;
  std::optional<std::string> config;
  std::int64_t threads = 0;
  bool json = false;
};

void declare_diagnose(Arguments& arguments, Options& options) {
  arguments.required("TRACE", options.trace, "The suspect's trace, a folder");
  arguments.text("--model", "MODEL", options.model,
                 "The checkpoint that the suspect ran: a folder or file");
  arguments.text("--config", "FILE", options.config, "In place of the folder's config.json");
  arguments.integer("--threads", options.threads, 0, 1024, "Threads; 0: one per processor");
  arguments.flag("--json", options.json, "Print JSON");
}

std::string text_of(const Diagnosis& diagnosis) {
  std::string text = diagnosis.summary + "\n";
  for (const Finding& finding : diagnosis.findings) {
    const Evidence& e = finding.evidence;
    text += fmt::format("\n{}: {}\n", finding.stage, finding.cause);
    if (!finding.row.empty()) {
      text += fmt::format("  row {}, expected {}, found {}\n", finding.row,
                          to_string(finding.expected), to_string(finding.found));
    }
    if (e.budget > 0) {
      text += fmt::format(
          "  residual {:.2e}, under the cause {:.2e}, budget {:.2e}; bit-equal {:.1f} %, then "
          "{:.1f} %; {} other hypotheses rejected\n",
          e.residual_before, e.residual_after, e.budget, 100 * e.bit_match_before,
          100 * e.bit_match_after, e.rejected);
    }
    if (e.logits_before && e.logits_after) {
      text +=
          fmt::format("  logits {:.2e} from the reference, {:.2e} from ours under all causes: {}\n",
                      *e.logits_before, *e.logits_after,
                      finding.harmless ? "harmless"
                      : finding.proved ? "proved"
                                       : "not proved");
    }
    if (finding.stages.size() > 1)
      text += fmt::format("  explains {} captured stages\n", finding.stages.size());
    for (const std::string& row : finding.also)
      text += "  the data cannot tell it from row " + row + "\n";
  }
  if (!diagnosis.not_observed.empty()) text += "\nNot observed:\n";
  for (const std::string& what : diagnosis.not_observed)
    text += "  " + what + "\n";
  return text;
}

int exit_code(Verdict verdict) {
  if (verdict == Verdict::kBenign) return kDone;
  return verdict == Verdict::kIncomparable ? kUnanswered : kDiffer;
}

Result<Diagnosis> answer(const Options& options) {
  PLUMB_TRY(const Trace trace, Trace::open(options.trace));
  if (!options.model)
    return Error{ErrorCode::kInvalidArgument, "--model is required (plumb diagnose --help)"};
  LoadOptions load;
  if (options.config) load.config_file = *options.config;
  PLUMB_TRY(const Model model, Model::load(*options.model, load));
  return diagnose(model, trace, {.threads = static_cast<int>(options.threads), .progress = {}});
}

Result<int> execute(const Options& options) {
  PLUMB_TRY(const Diagnosis diagnosis, answer(options));
  PLUMB_TRY_STATUS(print(options.json ? to_json(diagnosis) + "\n" : text_of(diagnosis)));
  return exit_code(diagnosis.verdict);
}

}  // namespace

Command diagnose_command() {
  const auto options = std::make_shared<Options>();
  return {.name = "diagnose",
          .place = 7,
          .summary = "Find where an engine departs from a checkpoint, and why",
          .details = kDetails,
          .declare = [options](Arguments& arguments) { declare_diagnose(arguments, *options); },
          .execute = [options] { return execute(*options); },
          .failed = kUnanswered};
}

}  // namespace plumb
