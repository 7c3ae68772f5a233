// manifest.json by nlohmann-json, the tensors by the safetensors reader. Every key's type and range
// is checked.
#include "parity/trace.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/mapped_file.h"
#include "io/decode.h"
#include "io/json_text.h"

namespace plumb {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxManifestBytes = std::size_t{64} << 20;
constexpr std::size_t kMaxSteps = std::size_t{1} << 20;
constexpr int kMaxDepth = 64;  // of arrays and objects: what is written again, in a message or for a report, is written recursively

Error bad(const std::string& where, const std::string& what) {
  return {ErrorCode::kCorrupt, where + ": " + what};
}

std::string text_of(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::optional<std::string> optional_text(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_string()) return std::nullopt;
  return found->get<std::string>();
}

Result<std::vector<std::int32_t>> ids_of(const json& object, const char* key,
                                         const std::string& where) {
  std::vector<std::int32_t> ids;
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return ids;
  if (!found->is_array()) return bad(where, std::string(key) + " is not an array");
  for (const json& element : *found) {
    if (!element.is_number_integer() || element < 0 ||
        element > std::numeric_limits<std::int32_t>::max()) {
      return bad(where, std::string(key) + " holds " + element.dump().substr(0, 40) +
                            ", an id is an integer from 0 to 2147483647");
    }
    ids.push_back(element.get<std::int32_t>());
  }
  return ids;
}

Result<std::vector<TraceStep>> steps_of(const json& object, const std::string& where) {
  const auto found = object.find("steps");
  if (found == object.end() || !found->is_array())
    return bad(where, "steps is missing or not an array");
  if (found->size() > kMaxSteps)
    return bad(where, "steps has " + std::to_string(found->size()) + " entries, the limit is " +
                          std::to_string(kMaxSteps));
  std::vector<TraceStep> steps;
  for (const json& step : *found) {
    const auto field = [&](const char* key) -> std::int64_t {
      const auto value = step.is_object() ? step.find(key) : step.end();
      return step.is_object() && value != step.end() && value->is_number_integer()
                 ? value->get<std::int64_t>()
                 : -1;
    };
    const TraceStep entry{.first = field("first"), .count = field("count")};
    constexpr std::int64_t kMaxPosition = std::int64_t{1} << 40;
    if (entry.first < 0 || entry.count < 1 || entry.first > kMaxPosition ||
        entry.count > kMaxPosition) {
      return bad(where, "step " + std::to_string(steps.size()) +
                            " needs integers first (0 or more) and count (1 or more)");
    }
    steps.push_back(entry);
  }
  return steps;
}

}  // namespace

Result<TraceManifest> parse_trace_manifest(const std::string& text, const std::string& where) {
  PLUMB_TRY_STATUS(check_json(text, where, kMaxDepth));
  const json root = json::parse(text, nullptr, false);
  if (!root.is_object()) return bad(where, "is not a JSON object");
  if (text_of(root, "format") != "plumb-trace/1") {
    return bad(where, "format is \"" + text_of(root, "format").substr(0, 40) +
                          "\", only \"plumb-trace/1\" is known");
  }
  TraceManifest manifest;
  const json nothing = json::object();
  const auto part = [&](const char* key) -> const json& {
    const auto found = root.find(key);
    return found != root.end() && found->is_object() ? *found : nothing;
  };
  manifest.engine_name = text_of(part("engine"), "name");
  manifest.engine_version = text_of(part("engine"), "version");
  if (const auto settings = part("engine").find("settings"); settings != part("engine").end() && settings->is_object()) {
    manifest.settings = settings->dump(-1, ' ', false, json::error_handler_t::replace);
    manifest.precision = text_of(*settings, "precision");
    manifest.path = text_of(*settings, "path");
  }
  manifest.model_type = text_of(part("model"), "model_type");
  if (const auto config = part("model").find("config");
      config != part("model").end() && config->is_object()) {
    manifest.model_config = config->dump(-1, ' ', false, json::error_handler_t::replace);
  }
  manifest.dtype = text_of(root, "dtype");
  manifest.prompt = optional_text(root, "prompt");
  manifest.rendered = optional_text(root, "rendered");
  if (root.find("token_ids") == root.end()) return bad(where, "token_ids is missing");
  PLUMB_TRY(manifest.token_ids, ids_of(root, "token_ids", where));
  PLUMB_TRY(manifest.generated, ids_of(root, "generated", where));
  if (const auto stops = root.find("stop_ids"); stops != root.end() && !stops->is_null()) {
    PLUMB_TRY(auto ids, ids_of(root, "stop_ids", where));
    manifest.stop_ids = std::move(ids);
  }
  if (const auto sampler = root.find("sampler"); sampler != root.end() && !sampler->is_null()) {
    manifest.sampler = sampler->dump(-1, ' ', false, json::error_handler_t::replace);
  }
  PLUMB_TRY(manifest.steps, steps_of(root, where));
  if (const auto stages = root.find("stages"); stages != root.end() && stages->is_array()) {
    for (const json& stage : *stages) {
      if (stage.is_string()) manifest.stages.push_back(stage.get<std::string>());
    }
  }
  return manifest;
}

Result<Trace> Trace::open(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "manifest.json";
  PLUMB_TRY(const std::string text, read_text_file(file, kMaxManifestBytes));
  PLUMB_TRY(TraceManifest manifest, parse_trace_manifest(text, file.string()));
  std::error_code ignored;
  const std::filesystem::path single = folder / "tensors.safetensors";
  const bool sharded = !std::filesystem::exists(single, ignored);
  PLUMB_TRY(auto source,
            open_safetensors(sharded ? folder / "tensors.safetensors.index.json" : single));
  return Trace(std::move(manifest), std::move(source));
}

Trace::Trace(TraceManifest manifest, std::shared_ptr<const TensorSource> source)
    : manifest_(std::move(manifest)), source_(std::move(source)), ids_(manifest_.token_ids) {
  ids_.insert(ids_.end(), manifest_.generated.begin(), manifest_.generated.end());
  std::int64_t fed = 0;
  for (const TraceStep& step : manifest_.steps) {
    fed_before_.push_back(fed);
    fed = std::min(fed + step.count, std::ssize(ids_) + 1);  // what is beyond the ids is not known
  }
}

const StoredTensor* Trace::find(std::size_t step, std::string_view stage) const {
  return source_->find(std::to_string(step) + "/" + std::string(stage));
}

Tensor Trace::read(const StoredTensor& stored) {
  Tensor tensor(stored.shape);  // the reader has checked the count against the file's size
  decode(stored.dtype, stored.bytes, tensor.data);
  return tensor;
}

std::vector<std::int32_t> Trace::fed_ids(std::size_t step) const {
  if (step >= fed_before_.size()) return {};
  const std::int64_t first = fed_before_[step];
  const std::int64_t count = manifest_.steps[step].count;
  if (count > std::ssize(ids_) - first) return {};
  return {ids_.begin() + first, ids_.begin() + first + count};
}

std::shared_ptr<const CapturedValue> Trace::value(std::size_t step, std::string_view stage) const {
  const StoredTensor* stored = find(step, stage);
  if (stored == nullptr) return nullptr;
  return std::make_shared<CapturedValue>(CapturedValue{read(*stored), stored->dtype});
}

}  // namespace plumb
