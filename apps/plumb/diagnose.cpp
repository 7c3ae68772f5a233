// plumb diagnose: the first stage at which an engine departs from a checkpoint, and why.
#include "parity/diagnose.h"

#include <fmt/format.h>

#include "parity/diagnose_report.h"
#include "parity/repro.h"
#include "support/command.h"
#include "support/terminal.h"
#include "support/traces.h"

namespace plumb {
namespace {

constexpr std::string_view kDetails = R"(Examples:
  plumb diagnose suspect.trace --model path/to/checkpoint
  plumb diagnose suspect.trace --model path/to/checkpoint --json | jq '.findings[0].cause'
  plumb diagnose suspect.trace --model path/to/checkpoint --reference transformers.trace   either may be blamed
  plumb diagnose suspect.trace --model path/to/checkpoint --html report.html
  plumb diagnose suspect.trace --model path/to/checkpoint --repro case && case/replay.sh
  plumb diagnose suspect.trace --model path/to/checkpoint --stage 'layers.0.attn.*'        these stages alone

A trace is a folder with manifest.json and tensors.safetensors (docs/trace-format.md): what the suspect engine computed. Every
captured stage is recomputed in fp64 from the suspect's own captured inputs, so that one fault does not hide another; at a stage
beyond its budget every convention is tried with its other values and numbers are solved for; the causes found are proved by
running the whole network under them. Causes that the trace cannot tell apart are reported together, with the prompt that would:
capture that one next. Each rung of the ladder has a verdict: prompt, token ids, positions, weights, embedding,
stages, state across steps, logits, sampler, stop. Batch axes are left out and padding is cut; where the prompt attends to padding, that is
the fault. docs/causes.md lists the rows, docs/diagnosis.md what the JSON holds.

Exit codes: 0 nothing wrong, or nothing that reaches an output; 1 a fault; 2 the question could not be answered.
)";

constexpr int kDiffer = 1;
constexpr int kUnanswered = 2;

struct Options {
  std::string trace;
  std::optional<std::string> model;
  std::optional<std::string> config;
  std::optional<std::string> reference;
  std::vector<std::string> stages;
  std::int64_t threads = 0;
  bool json = false;
  std::optional<std::string> html;
  std::optional<std::string> repro;
};

void declare_diagnose(Arguments& arguments, Options& options) {
  arguments.required("TRACE", options.trace, "The suspect's trace, a folder");
  arguments.text("--model", "MODEL", options.model,
                 "The checkpoint that the suspect ran: a folder or file");
  arguments.text("--config", "FILE", options.config, "In place of the folder's config.json");
  arguments.text("--reference", "TRACE", options.reference,
                 "What the reference implementation computed: it is judged too, and may be blamed");
  arguments.texts("--stage", "PATTERN", options.stages,
                  "Judge these stages alone, * standing for anything; may be given several times");
  arguments.integer("--threads", options.threads, 0, 1024, "Threads; 0: one per processor");
  arguments.heading("Output");
  arguments.flag("--json", options.json, "Print JSON");
  arguments.text("--html", "FILE", options.html, "Write one self-contained page");
  arguments.text("--repro", "DIR", options.repro,
                 "Write the smallest case that shows the first finding, with the command that replays it");
}

int exit_code(Verdict verdict) {
  if (verdict == Verdict::kBenign) return kDone;
  return verdict == Verdict::kIncomparable ? kUnanswered : kDiffer;
}

struct Inputs {
  Trace suspect;
  std::optional<Trace> reference;
  Model model;
};

Result<Inputs> open_inputs(const Options& options) {
  PLUMB_TRY(Trace suspect, Trace::open(trace_folder(options.trace)));
  if (!options.model)
    return Error{ErrorCode::kInvalidArgument, "--model is required (plumb diagnose --help)"};
  std::optional<Trace> reference;
  if (options.reference) {
    PLUMB_TRY(reference, Trace::open(trace_folder(*options.reference)));
  }
  if (options.repro) PLUMB_TRY_STATUS(check_repro_target(*options.repro));
  LoadOptions load;
  if (options.config) load.config_file = *options.config;
  PLUMB_TRY(Model model, Model::load(*options.model, load));
  return Inputs{std::move(suspect), std::move(reference), std::move(model)};
}

Status write_case_of(const Inputs& inputs, const Diagnosis& diagnosis, const Options& options) {
  const Finding* finding = finding_to_show(diagnosis);
  if (finding == nullptr) {
    print_note(*options.repro + " is not written: there is no fault to show");
    return {};
  }
  ReproRequest request{.folder = *options.repro, .model = *options.model, .config = std::nullopt,
                       .threads = static_cast<int>(options.threads)};
  if (options.config) request.config = *options.config;
  const Trace& trace = finding->side == Side::kReference ? *inputs.reference : inputs.suspect;
  PLUMB_TRY(const Repro repro, write_repro(inputs.model, trace, diagnosis, request));
  print_statistics(fmt::format("{}: {}, {} tensors, {} of {} tokens; {} replays it", *options.repro, repro.stage, repro.tensors,
                               repro.tokens, repro.of_tokens,
                               (std::filesystem::path(*options.repro) / "replay.sh").string()));
  return {};
}

Result<int> execute(const Options& options) {
  PLUMB_TRY(const Inputs inputs, open_inputs(options));
  PLUMB_TRY(const Diagnosis diagnosis, diagnose(inputs.model, inputs.suspect,
                                                {.threads = static_cast<int>(options.threads),
                                                 .reference = inputs.reference ? &*inputs.reference : nullptr,
                                                 .stages = options.stages,
                                                 .progress = [](const std::string& words) { show_progress(words); }}));
  clear_progress();
  if (options.html) {
    const DiagnoseNames names{.suspect = options.trace, .model = *options.model, .reference = options.reference.value_or("")};
    PLUMB_TRY_STATUS(write_page(*options.html, diagnose_html(diagnosis, names)));
  }
  if (options.repro) PLUMB_TRY_STATUS(write_case_of(inputs, diagnosis, options));
  PLUMB_TRY_STATUS(print(options.json ? diagnose_json(diagnosis) : diagnose_text(diagnosis)));
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
