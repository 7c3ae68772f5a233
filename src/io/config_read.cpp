// config.json, generation_config.json and tokenizer_config.json as files (transformers,
// configuration_utils.py).
#include <utility>

#include "core/mapped_file.h"
#include "io/config_impl.h"
#include "io/config_keys.h"
#include "io/json_text.h"

namespace plumb {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxConfigBytes = std::size_t{8} << 20;
constexpr std::size_t kMaxTokenizerConfigBytes = std::size_t{64} << 20;  // lists added tokens
constexpr int kMaxDepth = 32;

Result<Json> parse_object(std::string_view text, std::string_view where) {
  PLUMB_TRY_STATUS(check_json(text, where, kMaxDepth));
  Json value = Json::parse(text, nullptr, false);
  if (!value.is_object())
    return Error{ErrorCode::kCorrupt, std::string(where) + ": is not a JSON object"};
  return value;
}

// A file that a folder need not have; null when it has none.
Result<Json> read_optional(const std::filesystem::path& path, std::size_t limit_bytes) {
  if (!is_present(path)) return Json();
  PLUMB_TRY(const std::string text, read_text_file(path, limit_bytes));
  return parse_object(text, path.string());
}

std::string text_or_empty(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

// Adds the entries of `object` under their canonical names; a name given in canonical form wins
// over its aliases.
void merge(const Json& object, Json& values) {
  for (const auto& [key, value] : object.items()) {
    const std::string canonical(canonical_key(key));
    if (key == "text_config" || (canonical != key && object.contains(canonical))) continue;
    values[canonical] = value;
  }
}

// A token in tokenizer_config.json is a string or {"content": string, …}.
Result<std::string> token_text(const Json& config, const char* key, std::string_view where) {
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) return std::string();
  if (found->is_string()) return found->get<std::string>();
  if (found->is_object() && found->contains("content") && found->at("content").is_string()) {
    return found->at("content").get<std::string>();
  }
  return Error{ErrorCode::kCorrupt,
               std::string(where) + ": \"" + key +
                   "\" is neither a string nor an object with a string \"content\""};
}

}  // namespace

Result<Config> Config::parse(std::string_view json, std::string_view where) {
  PLUMB_TRY(const Json object, parse_object(json, where));
  auto impl = std::make_unique<Impl>();
  impl->text = json;
  impl->where = where;
  impl->values = Json::object();
  merge(object, impl->values);
  impl->model_type = text_or_empty(object, "model_type");
  impl->text_model_type = impl->model_type;
  if (const auto nested = object.find("text_config");
      nested != object.end() && nested->is_object()) {
    merge(*nested, impl->values);
    const std::string type = text_or_empty(*nested, "model_type");
    if (!type.empty()) impl->text_model_type = type;
  }
  if (impl->model_type.empty()) {
    return Error{ErrorCode::kCorrupt,
                 std::string(where) + ": has no \"model_type\" that is a string"};
  }
  return Config(std::move(impl));
}

Result<Config> Config::read(const std::filesystem::path& path,
                            const std::optional<std::filesystem::path>& config_file) {
  std::error_code ignored;
  const bool is_folder = std::filesystem::is_directory(path, ignored);
  const std::filesystem::path folder = is_folder ? path : path.parent_path();
  const std::filesystem::path file = config_file.value_or(is_folder ? path / "config.json" : path);
  PLUMB_TRY(const std::string text, read_text_file(file, kMaxConfigBytes));
  PLUMB_TRY(Config config, parse(text, file.string()));
  PLUMB_TRY(const Json generation,
            read_optional(folder / "generation_config.json", kMaxConfigBytes));
  if (generation.is_object() && generation.contains("eos_token_id")) {
    config.impl_->generation_where = (folder / "generation_config.json").string();
    config.impl_->generation_eos = generation.at("eos_token_id");
  }
  const std::filesystem::path tokenizer_path = folder / "tokenizer_config.json";
  PLUMB_TRY(const Json tokenizer, read_optional(tokenizer_path, kMaxTokenizerConfigBytes));
  if (tokenizer.is_object()) {
    PLUMB_TRY(config.tokenizer_eos, token_text(tokenizer, "eos_token", tokenizer_path.string()));
  }
  return config;
}

}  // namespace plumb
