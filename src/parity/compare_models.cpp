#include "parity/compare_models.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace plumb {
namespace {

std::string cleaned(const std::string& model_type) {
  std::string out;
  for (const char c : model_type) {
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z')) out += c;
    if (c >= 'A' && c <= 'Z') out += static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

}  // namespace

Status check_models(const Trace& a, const Trace& b, std::vector<std::string>& notes) {
  using nlohmann::json;
  const auto& left = a.manifest();
  const auto& right = b.manifest();
  if (!left.model_type.empty() && !right.model_type.empty() &&
      cleaned(left.model_type) != cleaned(right.model_type)) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("different models: A ran \"{}\", B \"{}\"",
                             left.model_type.substr(0, 60), right.model_type.substr(0, 60))};
  }
  const json x = json::parse(left.model_config.empty() ? "{}" : left.model_config, nullptr, false);
  const json y =
      json::parse(right.model_config.empty() ? "{}" : right.model_config, nullptr, false);
  if (!x.is_object() || !y.is_object()) return {};
  constexpr std::string_view kSizes[] = {"hidden_size", "num_hidden_layers", "vocab_size"};
  constexpr std::string_view kNoConvention[] = {
      "dtype",     "torch_dtype",   "transformers_version", "_name_or_path",
      "use_cache", "architectures", "quantization_config",  "quantization"};
  constexpr std::size_t kMostNotes = 12;
  for (const auto& [key, value] : x.items()) {
    const auto other = y.find(key);
    if (other == y.end() || *other == value) continue;
    const auto text = [](const json& v) {
      return v.dump(-1, ' ', true, json::error_handler_t::replace).substr(0, 60);
    };
    if (std::find(std::begin(kSizes), std::end(kSizes), key) != std::end(kSizes)) {
      return Error{ErrorCode::kInvalidArgument,
                   fmt::format("different models: {} is {} in A's configuration, {} in B's", key,
                               text(value), text(*other))};
    }
    if (std::find(std::begin(kNoConvention), std::end(kNoConvention), key) !=
        std::end(kNoConvention))
      continue;
    if (notes.size() < kMostNotes)
      notes.push_back(fmt::format("the configurations differ: {} is {} in A's, {} in B's", key,
                                  text(value), text(*other)));
  }
  return {};
}

int layers_of(const Trace& trace) {
  constexpr int kMostLayers = 10000;
  const auto config = nlohmann::json::parse(
      trace.manifest().model_config.empty() ? "{}" : trace.manifest().model_config, nullptr, false);
  if (!config.is_object()) return 0;
  const auto* from = &config;
  if (const auto text = config.find("text_config"); text != config.end() && text->is_object())
    from = &*text;
  const auto found = from->find("num_hidden_layers");
  if (found == from->end() || !found->is_number_integer()) return 0;
  const auto count = found->get<std::int64_t>();
  return count > 0 && count <= kMostLayers ? static_cast<int>(count) : 0;
}

}  // namespace plumb
