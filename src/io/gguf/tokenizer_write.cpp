// tokenizer.json to GGUF's tokenizer keys: llama.cpp's conversion/base.py (_set_vocab_gpt2, get_vocab_base) and gguf/vocab.py
// (SpecialVocab).
#include "io/gguf/tokenizer_write.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "core/checked.h"
#include "io/json_text.h"

namespace plumb {
namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 64;
constexpr std::int64_t kMaxTokens = 1 << 24;

// What llama.cpp calls a pre-tokenizer (llama-vocab.cpp), by the patterns of its Split stages, one a line; none: ByteLevel's
// own pattern. Where tokenizers give a whole word's token before any merge, only llama-bpe does so too; smaug-bpe is its
// pattern without that.
struct PreTokenizer {
  std::string_view name;
  std::string_view patterns;
};

// clang-format off
constexpr PreTokenizer kPreTokenizers[] = {
    {"gpt-2",
     ""},
    {"llama-bpe",
     R"re((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)re"},
    {"qwen2",
     R"re((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)re"},
    {"qwen35",
     R"re((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)re"},
    {"gpt-4o",
     R"re([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)re"},
    {"deepseek-v3",
     R"re(\p{N}{1,3})re"
     "\n"
     R"re([一-龥぀-ゟ゠-ヿ]+)re"
     "\n"
     R"re([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^)re"
     "\r"
     "\n"
     R"re(\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[)re"
     "\r"
     "\n"
     R"re(]*|\s*[)re"
     "\r"
     "\n"
     R"re(]+|\s+(?!\S)|\s+)re"},
};
// clang-format on

class Builder {
 public:
  Builder(std::string_view where, const Config& config) : where_(where), config_(config) {}

  Result<GgufTokenizer> build(const Json& root) {
    if (!root.is_object() || !root.contains("model") || !root["model"].is_object())
      return corrupt("has no object \"model\"");
    const Json& model = root["model"];
    if (model.value("type", Json("")) != "BPE" ||
        model.value("byte_fallback", Json(false)) == true) {
      return unsupported("is no byte-level BPE; other kinds cannot be written to GGUF");
    }
    PLUMB_TRY_STATUS(add_vocabulary(model));
    PLUMB_TRY_STATUS(add_added_tokens(root));
    PLUMB_TRY_STATUS(pad());
    PLUMB_TRY_STATUS(add_merges(model));
    PLUMB_TRY_STATUS(name_pre_tokenizer(root, model.value("ignore_merges", Json(false)) == true));
    add_template(root);
    add_ids();
    tokenizer_.model = "gpt2";
    return std::move(tokenizer_);
  }

 private:
  Error corrupt(const std::string& what) const {
    return {ErrorCode::kCorrupt, std::string(where_) + ": " + what};
  }
  Error unsupported(const std::string& what) const {
    return {ErrorCode::kUnsupported, std::string(where_) + ": " + what};
  }

  Status put(const std::string& text, const Json& id, GgufTokenType type) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= kMaxTokens) {
      return corrupt("the token \"" + text + "\" has an id outside 0 to " +
                     std::to_string(kMaxTokens));
    }
    const auto index = id.get<std::size_t>();
    if (index >= tokenizer_.tokens.size()) {
      tokenizer_.tokens.resize(index + 1);
      tokenizer_.token_types.resize(index + 1, GgufTokenType::kUndefined);
    }
    tokenizer_.tokens[index] = text;
    tokenizer_.token_types[index] = type;
    return {};
  }

  Status add_vocabulary(const Json& model) {
    if (!model.contains("vocab") || !model["vocab"].is_object())
      return corrupt("has no object \"vocab\"");
    for (const auto& [text, id] : model["vocab"].items())
      PLUMB_TRY_STATUS(put(text, id, GgufTokenType::kNormal));
    return {};
  }

  Status add_added_tokens(const Json& root) {
    const auto added = root.find("added_tokens");
    if (added == root.end() || !added->is_array()) return {};
    for (const Json& token : *added) {
      if (!token.is_object() || !token.contains("content") || !token["content"].is_string() ||
          !token.contains("id")) {
        return corrupt("has an added token without content and id");
      }
      const bool is_special = token.value("special", Json(false)) == true;
      PLUMB_TRY_STATUS(put(token["content"].get<std::string>(), token["id"],
                           is_special ? GgufTokenType::kControl : GgufTokenType::kUserDefined));
    }
    return {};
  }

  // Ids without a token, and rows of the embedding past the last token.
  Status pad() {
    const auto size = static_cast<std::size_t>(config_.vocab_size);
    if (tokenizer_.tokens.size() > size) {
      return corrupt("has " + std::to_string(tokenizer_.tokens.size()) +
                     " tokens, the model's vocabulary " + std::to_string(size));
    }
    tokenizer_.tokens.resize(size);
    tokenizer_.token_types.resize(size, GgufTokenType::kUndefined);
    for (std::size_t i = 0; i < size; ++i) {
      if (tokenizer_.token_types[i] != GgufTokenType::kUndefined) continue;
      tokenizer_.tokens[i] = "[PAD" + std::to_string(i) + "]";
      tokenizer_.token_types[i] = GgufTokenType::kUnused;
    }
    return {};
  }

  // "left right", or [left, right].
  Status add_merges(const Json& model) {
    if (!model.contains("merges") || !model["merges"].is_array())
      return corrupt("has no list \"merges\"");
    for (const Json& merge : model["merges"]) {
      if (merge.is_string()) {
        tokenizer_.merges.push_back(merge.get<std::string>());
      } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
                 merge[1].is_string()) {
        tokenizer_.merges.push_back(merge[0].get<std::string>() + " " +
                                    merge[1].get<std::string>());
      } else {
        return corrupt("has a merge that is not two strings");
      }
    }
    return {};
  }

  Status name_pre_tokenizer(const Json& root, bool ignores_merges) {
    const Json normalizer = root.value("normalizer", Json());
    if (!normalizer.is_null() && normalizer.value("type", Json("")) != "NFC") {
      return unsupported("has a normalizer other than NFC, which GGUF cannot hold");
    }
    const Json stage = root.value("pre_tokenizer", Json());
    Json stages = Json::array({stage});
    if (stage.is_object() && stage.contains("pretokenizers")) stages = stage["pretokenizers"];
    std::string patterns;
    bool is_byte_level = false;
    for (const Json& one : stages) {
      const Json type = one.is_object() ? one.value("type", Json("")) : Json("");
      if (type == "ByteLevel" && one.value("add_prefix_space", Json(false)) == false) {
        is_byte_level = true;
      } else if (type == "Split" && one.contains("pattern") && one["pattern"].is_object() &&
                 one["pattern"].value("Regex", Json()).is_string() &&
                 one.value("behavior", Json("")) == "Isolated") {
        patterns += (patterns.empty() ? "" : "\n") + one["pattern"]["Regex"].get<std::string>();
      } else {
        return unsupported("has a pre-tokenizer that no name in GGUF stands for");
      }
    }
    for (const PreTokenizer& known : kPreTokenizers) {
      if (!is_byte_level || known.patterns != patterns) continue;
      tokenizer_.pre = known.name;
      if (known.name == "llama-bpe" && !ignores_merges) tokenizer_.pre = "smaug-bpe";
      if (known.name != "llama-bpe" && ignores_merges) break;
      return {};
    }
    return unsupported("has a pre-tokenizer that no name in GGUF stands for");
  }

  std::optional<std::int32_t> id_of(std::string_view text) const {
    const auto found = std::find(tokenizer_.tokens.begin(), tokenizer_.tokens.end(), text);
    if (text.empty() || found == tokenizer_.tokens.end()) return std::nullopt;
    return static_cast<std::int32_t>(found - tokenizer_.tokens.begin());
  }

  // Special tokens that the post-processor puts first and last.
  void add_template(const Json& root) {
    tokenizer_.add_bos = false;
    tokenizer_.add_eos = false;
    const Json post = root.value("post_processor", Json());
    Json stages = Json::array({post});
    if (post.is_object() && post.contains("processors")) stages = post["processors"];
    for (const Json& stage : stages) {
      if (!stage.is_object() || !stage.contains("single") || !stage["single"].is_array() ||
          stage["single"].empty())
        continue;
      const auto special = [&](const Json& piece) -> std::optional<std::int32_t> {
        if (!piece.is_object() || !piece.contains("SpecialToken")) return std::nullopt;
        const Json id = piece["SpecialToken"].value("id", Json());
        return id.is_string() ? id_of(id.get<std::string>()) : std::nullopt;
      };
      if (const auto bos = special(stage["single"].front())) {
        tokenizer_.bos_id = bos;
        tokenizer_.add_bos = true;
      }
      if (const auto eos = special(stage["single"].back())) {
        tokenizer_.eos_id = eos;
        tokenizer_.add_eos = stage["single"].size() > 1;
      }
    }
  }

  // GGUF has three ids that end a text; the configuration's stop ids take them in ascending order after eos.
  void add_ids() {
    const auto known = [&](std::optional<std::int64_t> id) -> std::optional<std::int32_t> {
      if (!id || *id < 0 || *id >= config_.vocab_size) return std::nullopt;
      return static_cast<std::int32_t>(*id);
    };
    if (!tokenizer_.bos_id && !config_.json_of("bos_token_id").starts_with("[")) {
      tokenizer_.bos_id = known(config_.maybe_integer("bos_token_id"));
    }
    tokenizer_.pad_id = known(config_.maybe_integer("pad_token_id"));
    if (!tokenizer_.eos_id) tokenizer_.eos_id = id_of(config_.tokenizer_eos);
    for (const std::int32_t id : config_.stop_ids) {
      if (!known(id) || id == tokenizer_.eos_id) continue;
      for (std::optional<std::int32_t>* slot :
           {&tokenizer_.eos_id, &tokenizer_.eot_id, &tokenizer_.eom_id}) {
        if (slot->has_value()) continue;
        *slot = id;
        break;
      }
    }
  }

  std::string_view where_;
  const Config& config_;
  GgufTokenizer tokenizer_;
};

}  // namespace

Result<GgufTokenizer> gguf_tokenizer_from_json(std::string_view json, std::string_view where,
                                               const Config& config) {
  PLUMB_TRY_STATUS(check_json(json, where, kMaxDepth));
  return Builder(where, config).build(Json::parse(json, nullptr, false));
}

}  // namespace plumb
