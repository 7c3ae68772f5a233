// plumb run: a prompt goes on.
#include <fmt/format.h>

#include <limits>

#include "engine/generate.h"
#include "support/command.h"
#include "support/json.h"
#include "support/options.h"
#include "support/terminal.h"

namespace plumb {
namespace {

constexpr std::string_view kDetails = R"(Examples:
  plumb run "The capital of France is"
  plumb run path/to/model "Once upon a time" --max-tokens 64 --temperature 0.8 --top-p 0.95 --seed 7
  plumb run path/to/model --stop $'\n\n' --json < prompt.txt
  plumb run path/to/model --ids 1,450,7483 --precision hf-bf16

One argument alone is MODEL when there is such a file or folder, else a PROMPT for the built-in model. Without a PROMPT it is
read from standard input, less one line end at its end. The text streams to standard output; a line of statistics follows on
standard error. --json prints {"prompt_ids", "ids", "text", "finish_reason"}: "stop" (a stop id, which ids includes),
"stop_text", "length", or "cancelled" after Ctrl-C.
)";

struct Options {
  std::optional<std::string> model;
  std::optional<std::string> prompt;
  PromptOptions reading;
  EngineOptions engine;
  ExecutorChoice choice = {.usual = "cpu"};
  GenerateOptions generate;
  std::int64_t seed = 0;
  bool json = false;
};

void declare_run(Arguments& arguments, Options& options) {
  arguments.positional("MODEL", options.model,
                       "A folder or file; the built-in model when left out");
  arguments.positional("PROMPT", options.prompt,
                       "The text that is to go on; standard input when left out");
  declare(arguments, options.reading);
  arguments.heading("Choice");
  arguments.number("--temperature", options.generate.sampler.temperature,
                   "0: always the likeliest token");
  arguments.integer("--top-k", options.generate.sampler.top_k, 0,
                    std::numeric_limits<std::int32_t>::max(),
                    "Choose among the K likeliest; 0: all");
  arguments.number("--top-p", options.generate.sampler.top_p,
                   "Choose among the likeliest that make up this probability");
  arguments.number("--min-p", options.generate.sampler.min_p,
                   "Leave out what is less likely than X times the likeliest");
  arguments.integer("--seed", options.seed, 0, std::numeric_limits<std::int64_t>::max(),
                    "Of the random choices");
  arguments.heading("End");
  arguments.integer("--max-tokens", options.generate.max_tokens, 0,
                    std::numeric_limits<std::int32_t>::max(), "Generate at most so many");
  arguments.texts("--stop", "TEXT", options.generate.stop_texts,
                  "End before this text; may be given several times");
  arguments.flag("--ignore-eos", options.generate.ignore_eos, "Go on after stop ids");
  declare(arguments, options.engine);
  declare(arguments, options.choice);
  arguments.heading("Output");
  arguments.flag("--json", options.json, "Print one JSON object when done");
}

// One word with a slash: more likely a name mistyped than a text to continue.
bool looks_like_path(std::string_view text) {
  return text.find('/') != std::string_view::npos &&
         text.find_first_of(" \t\n") == std::string_view::npos;
}

// Which model, and sorts a single argument into MODEL or PROMPT.
Result<std::filesystem::path> find_model(Options& options) {
  if (options.model && (options.prompt || exists(*options.model)))
    return std::filesystem::path(*options.model);
  if (options.model && options.reading.ids.given()) {
    return Error{ErrorCode::kNotFound,
                 fmt::format("{}: there is no such file or folder", *options.model)};
  }
  if (options.model && looks_like_path(*options.model)) {
    print_note(fmt::format("there is no file or folder {}: it is a prompt for the built-in model",
                           *options.model));
  }
  options.prompt = std::move(options.model);
  return builtin_model();
}

std::string rate(std::size_t tokens, double seconds) {
  return tokens > 0 && seconds > 0
             ? fmt::format(", {:.1f} tokens/s", static_cast<double>(tokens) / seconds)
             : "";
}

std::string statistics(const Prompt& prompt, const Generation& result, const Executor& executor) {
  const std::size_t prompt_tokens = prompt.ids.size();
  const std::size_t generated = result.ids.size();
  const bool prompt_done = result.finish_reason != FinishReason::kCancelled || generated > 0;
  // The first token is chosen from what the prompt yields: only the others take a step of their own.
  const std::size_t steps = generated > 0 ? generated - 1 : 0;
  return fmt::format("prompt {} tokens{}; generated {} tokens{}; {}; {}", prompt_tokens,
                     rate(prompt_done ? prompt_tokens : 0, result.prompt_seconds), generated,
                     rate(steps, result.generate_seconds), to_string(result.finish_reason),
                     executor.describe());
}

void note_what_has_no_effect(const Options& options) {
  const SamplerOptions& sampler = options.generate.sampler;
  if (sampler.temperature == 0 && (sampler.top_k > 0 || sampler.top_p < 1 || sampler.min_p > 0)) {
    print_note(
        "without --temperature the choice is greedy: --top-k, --top-p and --min-p have no effect");
  }
}

Result<int> report(const Options& options, const Prompt& prompt, const Generation& result,
                   const Session& session) {
  if (options.json) {
    PLUMB_TRY_STATUS(print_json({{"prompt_ids", prompt.ids},
                                 {"ids", result.ids},
                                 {"text", result.text},
                                 {"finish_reason", to_string(result.finish_reason)}}));
  } else if (!result.text.ends_with('\n')) {
    PLUMB_TRY_STATUS(print("\n"));
  }
  // read_prompt() has said so where the prompt alone is too long.
  if (fits_positions(*session.model, prompt.ids.size()))
    note_length(*session.model, prompt.ids.size() + result.ids.size());
  print_statistics(statistics(prompt, result, *session.executor));
  return result.finish_reason == FinishReason::kCancelled ? kInterrupted : kDone;
}

Result<int> execute(Options& options) {
  options.generate.sampler.seed = static_cast<std::uint64_t>(options.seed);
  PLUMB_TRY_STATUS(options.generate.sampler.check());
  note_what_has_no_effect(options);
  PLUMB_TRY(const std::filesystem::path path, find_model(options));
  PLUMB_TRY(const Session session, open_session(path, options.engine, options.choice));
  options.generate.chunk = session.chunk;
  PLUMB_TRY(const Prompt prompt, read_prompt(options.prompt, options.reading, *session.model));

  const Cancellable cancellable;
  const auto prompt_tokens = static_cast<std::int64_t>(prompt.ids.size());
  options.generate.progress = [prompt_tokens](std::int64_t fed) {
    if (fed < prompt_tokens)
      show_progress(fmt::format("reading the prompt: {} of {} tokens", fed, prompt_tokens));
    return !interrupted();
  };
  Status written;
  const TextSink sink = [&](std::string_view piece) {
    if (!options.json) written = print(piece);
    return written.ok();
  };
  PLUMB_TRY(const Generation result,
            generate(*session.model, *session.executor, prompt.ids, options.generate, sink));
  PLUMB_TRY_STATUS(written);
  return report(options, prompt, result, session);
}

}  // namespace

Command run_command() {
  const auto options = std::make_shared<Options>();
  return {.name = "run",
          .place = 1,
          .summary = "Continue a prompt",
          .details = kDetails,
          .declare = [options](Arguments& arguments) { declare_run(arguments, *options); },
          .execute = [options] { return execute(*options); }};
}

}  // namespace plumb
