#include "io/tokenizer_config.h"

#include <charconv>
#include <nlohmann/json.hpp>

#include "io/json_text.h"

namespace plumb {
namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 32;
constexpr std::int32_t kMaxTokens = 1 << 24;

Result<std::optional<bool>> flag(const Json& root, const char* key, std::string_view where) {
  const auto found = root.find(key);
  if (found == root.end() || found->is_null()) return std::optional<bool>();
  if (!found->is_boolean())
    return Error{ErrorCode::kCorrupt, std::string(where) + ": \"" + key + "\" is not a bool"};
  return std::optional(found->get<bool>());
}

// A string, or a list of {name, template}.
std::string chat_template_of(const Json& root) {
  const auto found = root.find("chat_template");
  if (found == root.end()) return "";
  if (found->is_string()) return found->get<std::string>();
  for (const Json& one : found->is_array() ? *found : Json::array()) {
    if (!one.is_object() || !one.contains("name") || !one.contains("template")) continue;
    if (one["name"] == "default" && one["template"].is_string()) return one["template"].get<std::string>();
  }
  return "";
}

}  // namespace

Result<TokenizerConfig> parse_tokenizer_config(std::string_view json, std::string_view where) {
  PLUMB_TRY_STATUS(check_json(json, where, kMaxDepth));
  const Json root = Json::parse(json, nullptr, false);
  const auto corrupt = [&](const std::string& what) {
    return Error{ErrorCode::kCorrupt, std::string(where) + ": " + what};
  };
  if (!root.is_object()) return corrupt("is not a JSON object");
  TokenizerConfig config;
  PLUMB_TRY(config.add_bos, flag(root, "add_bos_token", where));
  PLUMB_TRY(config.add_eos, flag(root, "add_eos_token", where));
  config.chat_template = chat_template_of(root);
  const Json added = root.value("added_tokens_decoder", Json());
  if (added.is_null()) return config;
  if (!added.is_object()) return corrupt("\"added_tokens_decoder\" is not an object");
  for (const auto& [key, token] : added.items()) {
    std::int32_t id = -1;
    const auto [end, code] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (code != std::errc() || end != key.data() + key.size() || id < 0 || id >= kMaxTokens)
      return corrupt("added_tokens_decoder has the id \"" + key +
                     "\", which is no number from 0 to " + std::to_string(kMaxTokens - 1));
    const bool is_token =
        token.is_object() && token.contains("content") && token["content"].is_string();
    if (!is_token)
      return corrupt("added_tokens_decoder[\"" + key + "\"] has no \"content\" that is a string");
    config.added_tokens.push_back(
        {id, token["content"].get<std::string>(), token.value("special", Json(false)) == true});
  }
  return config;
}

}  // namespace plumb
