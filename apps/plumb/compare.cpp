// plumb compare: how far two engines' traces are apart, stage by stage, and from where on.
#include "parity/compare.h"

#include <fmt/format.h>

#include <filesystem>

#include "parity/compare_report.h"
#include "parity/reference_trace.h"
#include "support/command.h"
#include "support/terminal.h"
#include "support/traces.h"

namespace plumb {
namespace {

constexpr std::string_view kDetails = R"(Examples:
  plumb compare mlx.trace plumb.trace
  plumb compare suspect.trace path/to/checkpoint            B is computed here, in A's dtype, from A's tokens
  plumb compare a.trace b.trace --model path/to/checkpoint  R against the checkpoint in fp64; tells which side is at fault
  plumb compare a.trace b.trace --json | jq .first_fault
  plumb compare a.trace b.trace --html report.html

A and B are traces (docs/trace-format.md). Stages are paired by name, by shape and order, and by content: other engines' names,
axis orders, permuted heads, fused projections, padding and the last token alone are recognised and reported as layouts. Positions
are aligned by the ids fed, so that a prefill is compared with a decode. docs/compare.md says how budgets are set and what the
JSON holds.

Exit codes: 0 they agree within the budget; 1 they do not; 2 the question could not be answered.
)";

constexpr int kDiffer = 1;
constexpr int kUnanswered = 2;

struct Options {
  std::string a;
  std::string b;
  std::optional<std::string> model;
  std::optional<std::string> config;
  std::int64_t threads = 0;
  std::int64_t top = 10;
  bool all = false;
  bool json = false;
  std::optional<std::string> html;
};

void declare_compare(Arguments& arguments, Options& options) {
  arguments.required("A", options.a, "A trace: a folder, or its manifest.json");
  arguments.required("B", options.b, "Another, or a checkpoint to compute it from");
  arguments.text("--model", "MODEL", options.model, "The checkpoint that both ran: gives R");
  arguments.text("--config", "FILE", options.config, "In place of the checkpoint's config.json");
  arguments.integer("--threads", options.threads, 0, 1024, "Threads; 0: one per processor");
  arguments.heading("Output");
  arguments.integer("--top", options.top, 1, 1000000,
                    "Rows of the table of stages beyond the budget");
  arguments.flag("--all", options.all, "Every stage in the table");
  arguments.flag("--json", options.json, "Print JSON");
  arguments.text("--html", "FILE", options.html, "Write one self-contained page");
}

Result<Model> load(const Options& options, const std::string& path) {
  LoadOptions load;
  if (options.config) load.config_file = *options.config;
  return Model::load(path, load);
}

Result<Comparison> answer(const Options& options) {
  PLUMB_TRY(const Trace a, Trace::open(trace_folder(options.a)));
  const Cancellable cancellable;
  const ReferenceRun run{.threads = static_cast<int>(options.threads),
                         .progress = [](const std::string& words) {
                           show_progress(words);
                           return !interrupted();
                         }};
  std::error_code ignored;
  const std::filesystem::path b_path = trace_folder(options.b);
  if (!std::filesystem::exists(b_path / "manifest.json", ignored) &&
      std::filesystem::exists(b_path, ignored)) {
    PLUMB_TRY(const Model model, load(options, options.b));
    const bool judged = !options.model || *options.model == options.b;
    if (!judged)
      return Error{ErrorCode::kInvalidArgument,
                   "B is a checkpoint already: --model has nothing to add"};
    PLUMB_TRY(const ReferenceTraces traces, ReferenceTraces::compute(model, a, a, run));
    clear_progress();
    const Reference reference = traces.reference();
    return compare(a, *reference.like_a, &reference);
  }
  PLUMB_TRY(const Trace b, Trace::open(b_path));
  if (!options.model) return compare(a, b, nullptr);
  PLUMB_TRY(const Model model, load(options, *options.model));
  PLUMB_TRY(const ReferenceTraces traces, ReferenceTraces::compute(model, a, b, run));
  clear_progress();
  const Reference reference = traces.reference();
  return compare(a, b, &reference);
}

Result<int> execute(const Options& options) {
  auto answered = answer(options);
  if (!answered.ok() && answered.error().code == ErrorCode::kCancelled) return answered.error();
  const bool known = answered.ok();
  Comparison comparison;
  if (known) {
    comparison = std::move(answered).value();
  } else {
    comparison.summary = answered.error().message;  // the verdict is kIncomparable
  }
  const CompareNames names{.a = options.a, .b = options.b};
  if (options.html) {
    if (const Status written = write_page(
            *options.html,
            compare_html(comparison, names, static_cast<std::size_t>(options.top), options.all));
        !written.ok()) {
      print_error(written.error().message);
      return kUnanswered;
    }
  }
  if (options.json) {
    PLUMB_TRY_STATUS(print(compare_json(comparison, names)));
  } else if (known) {
    PLUMB_TRY_STATUS(
        print(compare_text(comparison, static_cast<std::size_t>(options.top), options.all)));
  } else {
    print_error(comparison.summary);
  }
  if (comparison.verdict == ComparisonVerdict::kAgree) return kDone;
  return comparison.verdict == ComparisonVerdict::kIncomparable ? kUnanswered : kDiffer;
}

}  // namespace

Command compare_command() {
  const auto options = std::make_shared<Options>();
  return {.name = "compare",
          .place = 8,
          .summary = "Find from where on two engines' traces differ",
          .details = kDetails,
          .declare = [options](Arguments& arguments) { declare_compare(arguments, *options); },
          .execute = [options] { return execute(*options); },
          .failed = kUnanswered};
}

}  // namespace plumb
