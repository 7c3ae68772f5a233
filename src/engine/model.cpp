// Loading: configuration, architecture, graph, weights, tokenizer, in this order; the first thing
// that does not fit is the error.
#include "engine/model.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/mapped_file.h"
#include "cpu/executor.h"
#include "io/gguf/names.h"
#include "models/support/registry.h"
#include "reference/executor.h"

namespace plumb {
namespace {

Error unknown_architecture(const Config& config) {
  std::string known;
  for (const std::string_view name : architecture_names())
    known += (known.empty() ? "" : ", ") + std::string(name);
  return {ErrorCode::kUnsupported, config.where() + ": model_type \"" + config.model_type() +
                                       "\" is not known; known are " + known};
}

std::filesystem::path folder_of(const std::filesystem::path& model) {
  std::error_code ignored;
  if (std::filesystem::is_directory(model, ignored)) return model;
  return model.has_parent_path() ? model.parent_path() : ".";
}

bool is_gguf(const std::filesystem::path& path) {
  return path.extension() == ".gguf";
}

std::vector<std::int32_t> united_stop_ids(const Config& config, const Tokenizer* tokenizer) {
  std::vector<std::int32_t> ids = config.stop_ids;
  if (tokenizer != nullptr && !config.tokenizer_eos.empty()) {
    if (const auto id = tokenizer->id(config.tokenizer_eos)) ids.push_back(*id);
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

// MLX writes the same object under both keys.
std::string quantisation_settings(const Config& config) {
  const std::string others = config.json_of("quantization_config");
  const std::string mlx = config.json_of("quantization");
  return mlx.empty() ? others : mlx;
}

// A checkpoint in whatever container: what is common to all before the graph is recorded.
struct Checkpoint {
  Config config;
  const Architecture* architecture;
  std::shared_ptr<const TensorSource> source;
  std::shared_ptr<const GgufFile> gguf;  // null for a folder
};

Result<Checkpoint> open_folder(const std::filesystem::path& path, const LoadOptions& options) {
  const std::filesystem::path folder = folder_of(path);
  std::error_code ignored;
  const bool is_other = path.extension() == ".json" && path.filename() != "config.json" &&
                        !path.string().ends_with(".index.json");
  if (is_other && std::filesystem::is_regular_file(path, ignored)) {
    return Error{ErrorCode::kInvalidArgument,
                 path.string() + ": is no model; name its folder, or a file of its weights"};
  }
  PLUMB_TRY(Config config, Config::read(folder, options.config_file));
  const Architecture* architecture = find_architecture(config.model_type());
  if (architecture == nullptr) return unknown_architecture(config);
  PLUMB_TRY(auto source, open_safetensors(path.filename() == "config.json" ? folder : path));
  return Checkpoint{std::move(config), architecture, std::move(source), nullptr};
}

Result<Checkpoint> open_gguf(const std::filesystem::path& path, const LoadOptions& options) {
  PLUMB_TRY(auto file, GgufFile::open(path));
  PLUMB_TRY(const GgufKind kind, gguf_kind(*file));
  const Architecture* architecture =
      find_gguf_architecture(kind.architecture, kind.experts, kind.window);
  if (architecture == nullptr) {
    return Error{ErrorCode::kUnsupported,
                 path.string() + ": the GGUF architecture \"" + kind.architecture + "\"" +
                     (kind.experts ? " with experts" : "") + " is not known"};
  }
  PLUMB_TRY(Config config, options.config_file ? Config::read(*options.config_file, std::nullopt)
                                               : config_from_gguf(*file, architecture->model_type,
                                                                  architecture->gguf));
  if (options.config_file && find_architecture(config.model_type()) != nullptr) {
    architecture = find_architecture(config.model_type());
  }
  return Checkpoint{std::move(config), architecture, file, file};
}

// What transformers does where an architecture rotates whole heads (models/llama/modeling_llama.py, compute_default_rope_parameters):
// the plain rotation passes over partial_rotary_factor, a scaled one makes tables that do not fit the heads.
Result<std::vector<std::string>> rotate_whole_heads(Config& config, std::string_view architecture) {
  std::vector<std::string> warnings;
  std::vector<RopeParameters*> all = {&config.rope};
  for (auto& [type, rope] : config.rope_of_layer_type)
    all.push_back(&rope);
  for (RopeParameters* rope : all) {
    if (rope->partial_rotary_factor == 1) continue;
    const std::string words = config.where() + ": partial_rotary_factor is " +
                              fmt::format("{}", rope->partial_rotary_factor) + ", and " +
                              std::string(architecture) + " rotates whole heads";
    if (rope->type != "default") {
      return Error{ErrorCode::kUnsupported,
                   words + ": its tables of type \"" + rope->type + "\" do not fit them"};
    }
    rope->partial_rotary_factor = 1;
    if (warnings.empty())
      warnings.push_back(words + ": the key is passed over, as transformers does");
  }
  return warnings;
}

}  // namespace

Status check_exists(const std::filesystem::path& path) {
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) return {};
  return Error{ErrorCode::kNotFound, path.string() + ": there is no such file or folder"};
}

Result<Model> Model::load(const std::filesystem::path& path, const LoadOptions& options) {
  PLUMB_TRY_STATUS(check_exists(path));
  PLUMB_TRY(Checkpoint checkpoint,
            is_gguf(path) ? open_gguf(path, options) : open_folder(path, options));
  Config& config = checkpoint.config;
  const Architecture* architecture = checkpoint.architecture;
  PLUMB_TRY_STATUS(config.apply_defaults(architecture->defaults));
  PLUMB_TRY_STATUS(config.status());
  std::vector<std::string> warnings;
  if (!architecture->rotates_part && !checkpoint.gguf) {  // GGUF's rope.dimension_count is heeded
    PLUMB_TRY(warnings, rotate_whole_heads(config, architecture->model_type));
  }
  PLUMB_TRY(Graph graph, architecture->record(config));
  WeightMap map(checkpoint.source,
                checkpoint.gguf ? gguf_files(architecture->gguf, config) : architecture->files,
                quantisation_settings(config));
  PLUMB_TRY(BoundGraph network, bind(std::move(graph), map));

  Model model;
  model.path = path;
  model.network = std::move(network);
  model.skipped = map.skipped();
  PLUMB_TRY(model.tokenizer, load_tokenizer(path));
  model.stop_ids = united_stop_ids(config, model.tokenizer.get());
  model.warnings = std::move(warnings);
  for (const std::string& key : config.unread()) {
    model.warnings.push_back(config.where() + ": \"" + key + "\" is read by no stage of " +
                             std::string(architecture->model_type) +
                             "; if it changes the computation, the results are wrong");
  }
  model.config = std::make_shared<const Config>(std::move(config));
  return model;
}

Result<Precision> precision_from_name(std::string_view name) {
  std::string known;
  for (const Precision precision : kPrecisions) {
    if (to_string(precision) == name) return precision;
    if (precision != kPrecisions.front()) known += precision == kPrecisions.back() ? " and " : ", ";
    known += to_string(precision);
  }
  return Error{ErrorCode::kInvalidArgument,
               "precision \"" + std::string(name) + "\" is not known; known are " + known};
}

Result<ExecutorKind> executor_from_name(std::string_view name) {
  if (name == "reference") return ExecutorKind::kReference;
  if (name == "cpu") return ExecutorKind::kCpu;
  return Error{ErrorCode::kInvalidArgument,
               "executor \"" + std::string(name) + "\" is not known; known are cpu and reference"};
}

Result<std::unique_ptr<Executor>> make_executor(const Model& model,
                                                const ExecutorOptions& options) {
  if (options.kind == ExecutorKind::kReference)
    return make_reference_executor(model.network, options.precision, options.threads);
  PLUMB_TRY(const cpu::Isa isa, cpu::isa_from_name(options.isa));
  PLUMB_TRY(const cpu::Activations activations, cpu::activations_from_name(options.activations));
  PLUMB_TRY(const cpu::CacheType cache, cpu::cache_type_from_name(options.cache_type));
  return cpu::make_cpu_executor(
      model.network,
      {.isa = isa, .activations = activations, .threads = options.threads, .cache = cache});
}

}  // namespace plumb
