// The tokenizer in GGUF metadata: gguf/constants.py (Keys.Tokenizer), llama.cpp's llama-vocab.cpp.
#include "core/checked.h"
#include "io/gguf/names.h"

namespace plumb {
namespace {

constexpr std::string_view kPrefix = "tokenizer.ggml.";

class Reader {
 public:
  explicit Reader(const GgufFile& file) : file_(file) {}

  Error corrupt(std::string_view key, const std::string& what) const {
    return {ErrorCode::kCorrupt, file_.where() + ": the key \"" + std::string(key) + "\" " + what};
  }

  const GgufValue* value(std::string_view key) const {
    return file_.value(std::string(kPrefix) + std::string(key));
  }

  Result<std::string> text(const std::string& key) const {
    const GgufValue* found = file_.value(key);
    if (found == nullptr) return std::string();
    const auto text = found->is_array ? std::nullopt : found->text();
    if (!text) return corrupt(key, "is not a string");
    return std::string(*text);
  }

  Result<std::vector<std::string>> texts(std::string_view key) const {
    const GgufValue* found = value(key);
    if (found == nullptr) return std::vector<std::string>();
    if (!found->is_array || found->type != GgufType::kString)
      return corrupt(full(key), "is not an array of strings");
    return std::vector<std::string>(found->texts.begin(), found->texts.end());
  }

  // An array with one entry per token, or nothing.
  template <class T, class F>
  Result<std::vector<T>> per_token(std::string_view key, std::size_t tokens, F entry) const {
    const GgufValue* found = value(key);
    std::vector<T> values;
    if (found == nullptr) return values;
    if (!found->is_array || found->size() != tokens) {
      return corrupt(full(key), "has " + std::to_string(found->size()) + " entries, there are " +
                                    std::to_string(tokens) + " tokens");
    }
    values.reserve(tokens);
    for (std::size_t i = 0; i < tokens; ++i) {
      const std::optional<T> converted = entry(*found, i);
      if (!converted) return corrupt(full(key), "has entry " + std::to_string(i) + " out of range");
      values.push_back(*converted);
    }
    return values;
  }

  Result<std::optional<std::int32_t>> id(std::string_view key, std::size_t tokens) const {
    const GgufValue* found = value(key);
    if (found == nullptr) return std::optional<std::int32_t>();
    // -1, as int32 or as uint32, says that there is none.
    const auto number = found->is_array ? std::nullopt : found->integer();
    if (number && (*number == -1 || *number == 0xffffffff)) return std::optional<std::int32_t>();
    if (!number || *number < 0 || std::cmp_greater_equal(*number, tokens)) {
      return corrupt(full(key), "is not an id of 0 to " + std::to_string(tokens - 1));
    }
    return std::optional(static_cast<std::int32_t>(*number));
  }

  Result<std::optional<bool>> flag(std::string_view key) const {
    const GgufValue* found = value(key);
    if (found == nullptr) return std::optional<bool>();
    if (found->is_array || !found->flag()) return corrupt(full(key), "is not a bool");
    return found->flag();
  }

 private:
  static std::string full(std::string_view key) { return std::string(kPrefix) + std::string(key); }

  const GgufFile& file_;
};

std::optional<GgufTokenType> token_type(const GgufValue& value, std::size_t i) {
  const auto type = value.integer(i);
  if (!type || *type < 0 || *type > static_cast<std::int32_t>(GgufTokenType::kByte))
    return std::nullopt;
  return static_cast<GgufTokenType>(*type);
}

std::optional<float> score(const GgufValue& value, std::size_t i) {
  const auto number = value.number(i);
  return number ? std::optional(static_cast<float>(*number)) : std::nullopt;
}

Status read_ids(const Reader& reader, GgufTokenizer& tokenizer) {
  const std::size_t tokens = tokenizer.tokens.size();
  PLUMB_TRY(tokenizer.bos_id, reader.id("bos_token_id", tokens));
  PLUMB_TRY(tokenizer.eos_id, reader.id("eos_token_id", tokens));
  PLUMB_TRY(tokenizer.eot_id, reader.id("eot_token_id", tokens));
  PLUMB_TRY(tokenizer.eom_id, reader.id("eom_token_id", tokens));
  PLUMB_TRY(tokenizer.unk_id, reader.id("unknown_token_id", tokens));
  PLUMB_TRY(tokenizer.sep_id, reader.id("seperator_token_id", tokens));  // llama.cpp's spelling
  PLUMB_TRY(tokenizer.pad_id, reader.id("padding_token_id", tokens));
  PLUMB_TRY(tokenizer.mask_id, reader.id("mask_token_id", tokens));
  PLUMB_TRY(tokenizer.add_bos, reader.flag("add_bos_token"));
  PLUMB_TRY(tokenizer.add_eos, reader.flag("add_eos_token"));
  PLUMB_TRY(tokenizer.add_sep, reader.flag("add_sep_token"));
  PLUMB_TRY(tokenizer.add_space_prefix, reader.flag("add_space_prefix"));
  PLUMB_TRY(tokenizer.remove_extra_whitespaces, reader.flag("remove_extra_whitespaces"));
  PLUMB_TRY(tokenizer.lowercase, reader.flag("normalizer.lowercase"));
  PLUMB_TRY(tokenizer.strip_accents, reader.flag("normalizer.strip_accents"));
  return {};
}

}  // namespace

Result<GgufTokenizer> tokenizer_from_gguf(const GgufFile& file) {
  const Reader reader(file);
  GgufTokenizer tokenizer;
  PLUMB_TRY(tokenizer.model, reader.text("tokenizer.ggml.model"));
  PLUMB_TRY(tokenizer.pre, reader.text("tokenizer.ggml.pre"));
  PLUMB_TRY(tokenizer.chat_template, reader.text("tokenizer.chat_template"));
  PLUMB_TRY(tokenizer.huggingface_json, reader.text("tokenizer.huggingface.json"));
  PLUMB_TRY(tokenizer.tokens, reader.texts("tokens"));
  if (tokenizer.model.empty() || tokenizer.tokens.empty()) {
    return Error{ErrorCode::kNotFound, file.where() + ": has no tokenizer in its metadata"};
  }
  PLUMB_TRY(tokenizer.merges, reader.texts("merges"));
  const std::size_t tokens = tokenizer.tokens.size();
  PLUMB_TRY(tokenizer.scores, reader.per_token<float>("scores", tokens, score));
  PLUMB_TRY(tokenizer.token_types,
            reader.per_token<GgufTokenType>("token_type", tokens, token_type));
  if (const GgufValue* charsmap = reader.value("precompiled_charsmap")) {
    if (!charsmap->is_array || scalar_size(charsmap->type) != 1U) {
      return reader.corrupt("tokenizer.ggml.precompiled_charsmap", "is not an array of bytes");
    }
    tokenizer.precompiled_charsmap.assign(charsmap->bytes.begin(), charsmap->bytes.end());
  }
  PLUMB_TRY_STATUS(read_ids(reader, tokenizer));
  return tokenizer;
}

}  // namespace plumb
