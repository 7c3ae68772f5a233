// Model: a checkpoint ready to run: its configuration, the graph its architecture records, its
// weights and its tokenizer.
//   PLUMB_TRY(const Model model, Model::load("models/demo", {}));
// Immutable once loaded; safe to share between threads.
#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"
#include "engine/tokenizer_file.h"
#include "graph/executor.h"
#include "io/config.h"
#include "io/weight_map.h"
#include "text/tokenizer.h"

namespace plumb {

enum class Precision : std::uint8_t;

struct LoadOptions {
  std::optional<std::filesystem::path> config_file;  // in place of the folder's config.json
};

struct Model {
  std::filesystem::path path;
  std::shared_ptr<const Config> config;
  BoundGraph network;
  std::vector<WeightMap::Skipped> skipped;  // tensors of the files that the graph has no use for
  std::shared_ptr<const Tokenizer> tokenizer;  // null when the folder has none: ids only
  std::vector<std::int32_t>
      stop_ids;  // of tokenizer_config, generation_config and config, united, ascending
  std::vector<std::string>
      warnings;  // each one sentence, for stderr: configuration keys that no stage consumed

  // `path` is a folder, its config.json, or a file of weights (or their index) that lies in it.
  static Result<Model> load(const std::filesystem::path& path, const LoadOptions& options);
};

// An error when there is no such file or folder.
Status check_exists(const std::filesystem::path& path);

// A name of reference/numerics.h, as "fp64"; an error lists them.
Result<Precision> precision_from_name(std::string_view name);

enum class ExecutorKind : std::uint8_t {
  kReference,  // in the precision asked for
  kCpu,        // in float32, fast
};

// "reference", "cpu"; an error lists them.
Result<ExecutorKind> executor_from_name(std::string_view name);

struct ExecutorOptions {
  Precision precision;  // of the reference executor
  int threads;          // 0: one per processor
  ExecutorKind kind = ExecutorKind::kReference;
  std::string isa = "auto";           // of the cpu executor; cpu/isa.h lists them
  std::string activations = "auto";  // of the cpu executor: "exact", "auto" or "short" (docs/numerics.md)
  std::string cache_type = "f32";    // of the cpu executor: "f32", "f16", "bf16" or "q8_0" (docs/numerics.md)
};

// An error names an instruction set that this machine does not have, or activations or a cache type that do not exist.
Result<std::unique_ptr<Executor>> make_executor(const Model& model, const ExecutorOptions& options);

}  // namespace plumb
