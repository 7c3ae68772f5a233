// Shared options: the model, how it runs, and where it is found.
#include "support/options.h"

#include <fmt/format.h>

#include <cstdlib>
#include <system_error>

#include "support/terminal.h"

namespace plumb {

namespace fs = std::filesystem;

void declare(Arguments& arguments, EngineOptions& options) {
  arguments.heading("How it is computed");
  arguments.text("--precision", "NAME [fp32]", options.precision,
                 "fp64: exact; fp32: as the reference in float32; hf-bf16, hf-fp16: rounded where transformers rounds in "
                 "two bytes; mlx-bf16, mlx-fp16: where mlx-lm does; ggml, ggml-flash: operands of products as llama.cpp "
                 "rounds them, without flash attention and with it; cpu-int8: as the cpu executor does, cpu-int16: with its attention in integers");
  arguments.integer("--threads", options.threads, 0, 1024,
                    "0: one for each processor; never changes a result");
  arguments.integer("--chunk", options.chunk, 0, 1'000'000'000,
                    "Prompt tokens computed together; 0: 64 on the reference executor, 256 on the cpu "
                    "executor; never changes a result");
  arguments.text("--config", "FILE", options.config,
                 "Read this in place of the folder's config.json");
}

void declare(Arguments& arguments, ExecutorChoice& choice) {
  arguments.text("--executor", fmt::format("NAME [{}]", choice.usual), choice.executor,
                 choice.usual == "cpu" ? "cpu: float32, fast; reference: every precision, slow, and chosen by --precision"
                                       : "reference: every precision, slow; cpu: float32, fast");
  arguments.text("--isa", "NAME [auto]", choice.isa,
                 "Of the cpu executor: portable, avx2, avxvnni, avx512, avx512vnni, avx512bf16, amx, neon, or the best there is");
  arguments.text("--activations", "NAME [auto]", choice.activations,
                 "Of the cpu executor. exact: float32; auto: int8 where weights are quantised, codes of 16 bits where they are BF16 or "
                 "F16 and the instruction set is avx2 or more, else float32; short: with AMX also bfloat16 where weights are (docs/numerics.md)");
  arguments.text("--cache-type", "NAME [f32]", choice.cache_type,
                 "Of the cpu executor, how keys and values are kept: f32, f16, bf16 or q8_0 (docs/numerics.md)");
}

namespace {

// Options of one executor that are given for the other would be ignored in silence.
Status check_choice(ExecutorKind kind, const EngineOptions& options, const ExecutorChoice& choice) {
  const bool cpu = kind == ExecutorKind::kCpu;
  const char* stray = nullptr;
  if (cpu && options.precision && *options.precision != "fp32") stray = "--precision";
  if (!cpu && choice.isa) stray = "--isa";
  if (!cpu && choice.activations) stray = "--activations";
  if (!cpu && choice.cache_type) stray = "--cache-type";
  if (stray == nullptr) return {};
  return Error{ErrorCode::kInvalidArgument,
               fmt::format("{} is for the {} executor", stray, cpu ? "reference" : "cpu")};
}

}  // namespace

Result<Session> open_session(const fs::path& path, const EngineOptions& options,
                             const ExecutorChoice& choice) {
  const std::string usual = options.precision ? "reference" : choice.usual;
  PLUMB_TRY(const ExecutorKind kind, executor_from_name(choice.executor.value_or(usual)));
  PLUMB_TRY_STATUS(check_choice(kind, options, choice));
  PLUMB_TRY(const Precision precision, precision_from_name(options.precision.value_or("fp32")));
  LoadOptions load;
  if (options.config) load.config_file = *options.config;
  Session session;
  PLUMB_TRY(Model model, Model::load(path, load));
  session.model = std::make_unique<const Model>(std::move(model));
  for (const std::string& warning : session.model->warnings)
    print_note(warning);
  PLUMB_TRY(session.executor,
            make_executor(*session.model,
                          {.precision = precision,
                           .threads = static_cast<int>(options.threads),
                           .kind = kind,
                           .isa = choice.isa.value_or("auto"),
                           .activations = choice.activations.value_or("auto"),
                           .cache_type = choice.cache_type.value_or("f32")}));
  session.kind = kind;
  const std::int64_t usual_chunk = kind == ExecutorKind::kCpu ? 256 : 64;
  session.chunk = options.chunk > 0 ? options.chunk : usual_chunk;
  return session;
}

Result<std::shared_ptr<const Tokenizer>> open_tokenizer(const fs::path& path) {
  PLUMB_TRY_STATUS(check_exists(path));
  PLUMB_TRY(auto tokenizer, load_tokenizer(path));
  if (tokenizer == nullptr) {
    return Error{ErrorCode::kNotFound, fmt::format("{}: has no tokenizer.json", path.string())};
  }
  return tokenizer;
}

bool exists(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

Result<fs::path> builtin_model() {
  if (const char* named = std::getenv("PLUMB_DEMO_MODEL"); named != nullptr && *named != '\0')
    return fs::path(named);
  std::error_code ignored;
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  const fs::path places[] = {fs::path(PLUMB_SOURCE_DIR) / "models/demo",
                             program / "../share/plumb/models/demo", program / "../../models/demo"};
  for (const fs::path& place : places) {
    if (fs::exists(place / "config.json", ignored)) return place.lexically_normal();
  }
  return Error{ErrorCode::kNotFound,
               "the built-in model is not where it was installed; name it in PLUMB_DEMO_MODEL"};
}

}  // namespace plumb
