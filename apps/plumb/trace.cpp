// plumb trace: what an executor computes, stage by stage, as a folder (docs/trace-format.md).
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <map>

#include "engine/sampler.h"
#include "parity/trace_writer.h"
#include "support/command.h"
#include "support/json.h"
#include "support/options.h"
#include "support/terminal.h"

namespace plumb {
namespace {

constexpr std::string_view kDetails = R"(Examples:
  plumb trace path/to/model "The capital of France is" --out france.trace
  plumb trace path/to/model --ids 1,450,7483 --precision hf-bf16 --steps 2 --out short.trace
  plumb trace path/to/model "Hello" --executor cpu --out fast.trace
  plumb trace path/to/model "Hello" --layers 0,3-5 --stages "layers.*.attn.*" --stages logits --out attention.trace

Writes what each stage yields for every token of the prompt, then for --steps greedy tokens, one forward pass each. Values are
stored as the precision holds them: fp64 as F64, fp32 as F32, hf-bf16 as BF16 (F32 where the reference keeps float32), and so
on. The cpu executor's are F32; what it does not keep otherwise, such as the scores of attention, it keeps for the trace, and no
logit changes by a bit: `plumb compare` of the two executors' traces says how far they are apart, stage by stage. The folder is
written under a temporary name and renamed at the end. The values are held in memory until then.
)";

struct Options {
  std::string model;
  std::optional<std::string> prompt;
  PromptOptions reading;
  EngineOptions engine;
  ExecutorChoice choice;
  std::optional<std::string> out;
  std::vector<std::string> stages;
  std::optional<std::string> layers;
  std::int64_t steps = 0;
  bool ignore_eos = false;
  bool force = false;
  bool json = false;
};

void declare_trace(Arguments& arguments, Options& options) {
  arguments.required("MODEL", options.model, "A folder or file");
  arguments.positional("PROMPT", options.prompt, "The text; standard input when left out");
  declare(arguments, options.reading);
  arguments.heading("What is traced");
  arguments.texts("--stages", "PATTERN", options.stages,
                  "Stages of these names, * standing for anything; may be given several times");
  arguments.text("--layers", "0,3-5", options.layers, "Of the layers, only these");
  arguments.integer("--steps", options.steps, 0, std::numeric_limits<std::int32_t>::max(),
                    "Greedy tokens to feed after the prompt");
  arguments.flag("--ignore-eos", options.ignore_eos, "Go on after stop ids");
  declare(arguments, options.engine);
  declare(arguments, options.choice);
  arguments.heading("Output");
  arguments.text("--out", "NAME.trace", options.out, "The folder to write; required");
  arguments.flag("--force", options.force, "Replace a trace that is there");
  arguments.flag("--json", options.json, "Print what was written as JSON");
}

// The last part of the path, whether or not it ends in a separator.
std::string model_name(const std::string& path) {
  const std::filesystem::path clean(path);
  return (clean.has_filename() ? clean : clean.parent_path()).filename().string();
}

// As the manifest says them.
std::map<std::string, std::string> settings_of(const Session& session, Precision precision) {
  if (session.kind == ExecutorKind::kCpu) return {{"executor", "cpu"}, {"path", session.executor->describe()}};
  return {{"executor", "reference"}, {"precision", std::string(to_string(precision))}};
}

// Feeds the prompt, then what is chosen; the ids chosen.
Result<std::vector<TokenId>> feed(const Session& session, const Prompt& prompt,
                                  const Options& options, TraceRecorder& recorder) {
  const auto sequence = session.executor->start();
  std::vector<TokenId> generated;
  std::vector<TokenId> ids = prompt.ids;
  const auto& stops = session.model->stop_ids;
  while (true) {
    recorder.begin_step(sequence->length(), std::ssize(ids));
    const auto progress = [&](std::int64_t done) {
      show_progress(fmt::format("pass {} of {}: {} of {} tokens", recorder.steps().size(),
                                options.steps + 1, done, ids.size()));
      return !interrupted();
    };
    PLUMB_TRY(const Tensor logits, session.executor->forward(*sequence, ids,
                                                             {.rows = LogitRows::kLast,
                                                              .chunk = session.chunk,
                                                              .observer = &recorder,
                                                              .progress = progress}));
    const TokenId id = argmax(logits.row(logits.tokens() - 1));
    generated.push_back(id);
    if (std::ssize(generated) > options.steps) return generated;
    if (!options.ignore_eos && std::binary_search(stops.begin(), stops.end(), id)) return generated;
    ids = {id};
  }
}

Result<int> execute(const Options& options) {
  if (!options.out) return Error{ErrorCode::kInvalidArgument, "--out NAME.trace is missing"};
  const TraceWriteOptions writing = {.replace = options.force};
  if (const Status free = check_trace_target(*options.out, writing); !free.ok()) {
    return Error{free.error().code,
                 free.error().message + (options.force ? "" : "; --force replaces a trace")};
  }
  PLUMB_TRY(const Precision precision,
            precision_from_name(options.engine.precision.value_or("fp32")));
  PLUMB_TRY(const Session session, open_session(options.model, options.engine, options.choice));
  const Model& model = *session.model;
  PLUMB_TRY(StageFilter filter,
            StageFilter::parse(model.network.graph, options.stages, options.layers));
  PLUMB_TRY(const Prompt prompt, read_prompt(options.prompt, options.reading, model));
  const Cancellable cancellable;
  TraceRecorder recorder(model.network.graph, precision, std::move(filter));
  PLUMB_TRY(const std::vector<TokenId> generated, feed(session, prompt, options, recorder));
  clear_progress();
  const TraceDescription about = {
      .engine_version = PLUMB_VERSION,
      .settings = settings_of(session, precision),
      .model_name = model_name(options.model),
      .model_type = model.config->text_model_type(),
      .model_config = model.config->json(),
      .prompt = prompt.text,
      .token_ids = prompt.ids,
      .generated = generated,
      .stop_ids = model.stop_ids};
  PLUMB_TRY_STATUS(write_trace(*options.out, about, recorder, writing));
  const std::size_t stages = recorder.stages().size();
  if (options.json) {
    PLUMB_TRY_STATUS(print_json({{"trace", *options.out},
                                 {"stages", stages},
                                 {"tensors", recorder.entries().size()},
                                 {"token_ids", prompt.ids},
                                 {"generated", generated}}));
  } else {
    print_statistics(fmt::format("{}: {} stages, {} passes; {}", *options.out, stages,
                                 recorder.steps().size(), session.executor->describe()));
  }
  return kDone;
}

}  // namespace

Command trace_command() {
  const auto options = std::make_shared<Options>();
  return {.name = "trace",
          .place = 8,
          .summary = "Write what every stage computes",
          .details = kDetails,
          .declare = [options](Arguments& arguments) { declare_trace(arguments, *options); },
          .execute = [options] { return execute(*options); }};
}

}  // namespace plumb
