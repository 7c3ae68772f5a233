// tokenizer.json to GGUF's tokenizer keys: llama.cpp's conversion/base.py (_set_vocab_gpt2, get_vocab_base) and gguf/vocab.py
// (SpecialVocab).
#include "io/gguf/tokenizer_write.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <unordered_set>

#include "core/base64.h"
#include "io/gguf/tokenizer_stages.h"
#include "io/json_text.h"

namespace plumb {
namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 64;
constexpr std::int64_t kMaxTokens = 1 << 24;

constexpr std::string_view kSpace = "\u2581";
constexpr std::string_view kWordPiecePrefix = "##";
constexpr float kAddedScore = -1000;  // conversion/base.py, _create_vocab_sentencepiece

bool is_byte_piece(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  return text.size() == 6 && text.starts_with("<0x") && text.ends_with('>') &&
         text.find_first_not_of(kDigits, 3) == 5;
}

std::string with_spaces(std::string text) {
  for (std::size_t at = text.find(kSpace); at != std::string::npos; at = text.find(kSpace, at + 1))
    text.replace(at, kSpace.size(), " ");
  return text;
}

bool is_character_end(std::string_view text, std::size_t i) {
  return i == text.size() || (static_cast<unsigned char>(text[i]) & 0xC0U) != 0x80U;
}

class Builder {
 public:
  Builder(std::string_view where, const Config& config) : where_(where), config_(config) {}

  Result<GgufTokenizer> build(const Json& root) {
    if (!root.is_object() || !root.contains("model") || !root["model"].is_object())
      return corrupt("has no object \"model\"");
    const Json& model = root["model"];
    const std::string type = stage_type(model);
    tokenizer_.pre = "default";
    if (type == "BPE" && model.value("byte_fallback", Json(false)) == true) {
      PLUMB_TRY_STATUS(sentencepiece_bpe(root, model));
    } else if (type == "BPE") {
      PLUMB_TRY_STATUS(byte_level_bpe(root, model));
    } else if (type == "Unigram") {
      PLUMB_TRY_STATUS(unigram(root, model));
    } else if (type == "WordPiece") {
      PLUMB_TRY_STATUS(word_piece(root, model));
    } else {
      return unsupported("has the model " + type + ", for which GGUF has no tokenizer");
    }
    add_ids();
    return std::move(tokenizer_);
  }

  Result<GgufTokenizer> complete(GgufTokenizer tokenizer) {
    tokenizer_ = std::move(tokenizer);
    PLUMB_TRY_STATUS(pad());
    if (!tokenizer_.scores.empty()) tokenizer_.scores.resize(tokenizer_.tokens.size(), kAddedScore);
    add_ids();
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

  Status named(const Error& error) const {
    return Error{error.code, std::string(where_) + ": " + error.message};
  }

  template <class T>
  Result<T> named(Result<T> result) const {
    if (result.ok()) return result;
    return named(result.error()).error();
  }

  Status byte_level_bpe(const Json& root, const Json& model) {
    tokenizer_.model = "gpt2";
    PLUMB_TRY_STATUS(refuse_affixes(model));
    PLUMB_TRY_STATUS(add_vocabulary(model));
    PLUMB_TRY_STATUS(add_added_tokens(root));
    PLUMB_TRY_STATUS(pad());
    PLUMB_TRY(tokenizer_.merges, read_merges(model));
    const bool ignores_merges = model.value("ignore_merges", Json(false)) == true;
    PLUMB_TRY(tokenizer_.pre, named(gguf_pre_of(root, ignores_merges)));
    return add_template(root);
  }

  // llama.cpp merges any neighbours that together are a token, the highest score first; tokenizer.json lists the pairs.
  Status sentencepiece_bpe(const Json& root, const Json& model) {
    tokenizer_.model = "llama";
    PLUMB_TRY_STATUS(refuse_affixes(model));
    if (model.value("ignore_merges", Json(false)) == true)
      return unsupported("has ignore_merges with byte fallback, which GGUF cannot hold");
    PLUMB_TRY(const SentencePieceSpaces spaces, named(sentencepiece_spaces(root, false)));
    PLUMB_TRY_STATUS(add_vocabulary(model));
    PLUMB_TRY(const std::vector<std::string> merges, read_merges(model));
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < tokenizer_.tokens.size(); ++i) {
      if (!is_byte_piece(tokenizer_.tokens[i])) continue;
      tokenizer_.token_types[i] = GgufTokenType::kByte;
      ++bytes;
    }
    constexpr std::size_t kBytes = 256;
    if (bytes != kBytes)
      return unsupported("has " + std::to_string(bytes) +
                         " tokens of bytes, GGUF's byte fallback needs 256");
    PLUMB_TRY_STATUS(add_added_tokens(root));
    PLUMB_TRY_STATUS(score_by_merges(merges));
    return finish_sentencepiece(root, model.value("unk_token", Json()), spaces);
  }

  Status unigram(const Json& root, const Json& model) {
    tokenizer_.model = "t5";
    if (model.value("byte_fallback", Json(false)) == true)
      return unsupported("is a Unigram model with byte fallback, which GGUF cannot hold");
    PLUMB_TRY(const SentencePieceSpaces spaces, named(sentencepiece_spaces(root, true)));
    if (!model.contains("vocab") || !model["vocab"].is_array())
      return corrupt("has no list \"vocab\"");
    for (const Json& entry : model["vocab"]) {
      if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number())
        return corrupt("has an entry of \"vocab\" that is not a piece and its score");
      PLUMB_TRY_STATUS(
          put(entry[0].get<std::string>(), tokenizer_.scores.size(), GgufTokenType::kNormal));
      tokenizer_.scores.push_back(entry[1].get<float>());
    }
    const Json unknown = model.value("unk_id", Json());
    if (!unknown.is_number_unsigned() || unknown.get<std::uint64_t>() >= tokenizer_.tokens.size())
      return corrupt("has no \"unk_id\" within its vocabulary");
    tokenizer_.remove_extra_whitespaces = spaces.collapses;
    if (!spaces.charsmap.empty()) {
      PLUMB_TRY(const std::string map, named(decode_base64(spaces.charsmap)));
      for (const char c : map)
        tokenizer_.precompiled_charsmap.push_back(static_cast<std::byte>(c));
    }
    const std::string piece = tokenizer_.tokens[unknown.get<std::size_t>()];
    PLUMB_TRY_STATUS(add_added_tokens(root));
    return finish_sentencepiece(root, piece, spaces);
  }

  Status finish_sentencepiece(const Json& root, const Json& unknown,
                              const SentencePieceSpaces& spaces) {
    tokenizer_.add_space_prefix = spaces.add_prefix;
    for (std::size_t i = 0; spaces.splits && i < tokenizer_.tokens.size(); ++i) {
      if (tokenizer_.token_types[i] == GgufTokenType::kNormal &&
          tokenizer_.tokens[i].find(kSpace, 1) != std::string::npos)
        return unsupported("cuts at each space and has the token \"" + tokenizer_.tokens[i] +
                           "\" across one, which GGUF cannot hold");
    }
    if (unknown.is_string()) tokenizer_.unk_id = id_of(unknown.get<std::string>());
    if (tokenizer_.unk_id)
      tokenizer_.token_types[static_cast<std::size_t>(*tokenizer_.unk_id)] =
          GgufTokenType::kUnknown;
    PLUMB_TRY_STATUS(add_template(root));
    PLUMB_TRY_STATUS(pad());
    tokenizer_.scores.resize(tokenizer_.tokens.size(), kAddedScore);
    return {};
  }

  // A token's score is the rank of the first pair that makes it, downwards; a token of two known parts whose pair is no merge
  // would be built all the same, so that is an error.
  Status score_by_merges(const std::vector<std::string>& merges) {
    std::unordered_map<std::string_view, std::size_t> ids;
    for (std::size_t i = 0; i < tokenizer_.tokens.size(); ++i) {
      const GgufTokenType type = tokenizer_.token_types[i];
      if (type == GgufTokenType::kNormal) ids.emplace(tokenizer_.tokens[i], i);
    }
    const std::unordered_set<std::string_view> pairs(merges.begin(), merges.end());
    tokenizer_.scores.assign(tokenizer_.tokens.size(), -static_cast<float>(merges.size()));
    for (std::size_t rank = merges.size(); rank-- > 0;) {
      const std::string& pair = merges[rank];
      const auto found = ids.find(joined(pair));
      if (found != ids.end()) tokenizer_.scores[found->second] = -static_cast<float>(rank);
    }
    for (const auto& [text, id] : ids) {
      for (std::size_t i = 1; i < text.size(); ++i) {
        if (!is_character_end(text, i) || !ids.contains(text.substr(0, i)) ||
            !ids.contains(text.substr(i)))
          continue;
        const std::string pair = std::string(text.substr(0, i)) + " " + std::string(text.substr(i));
        if (!pairs.contains(pair))
          return unsupported("does not merge \"" + pair + "\" though it has the token \"" +
                             std::string(text) + "\"; GGUF's scores cannot say so");
      }
    }
    return {};
  }

  static std::string joined(const std::string& pair) {
    const std::size_t space = pair.find(' ', 1);
    return space == std::string::npos ? pair : pair.substr(0, space) + pair.substr(space + 1);
  }

  // conversion/bert.py, phantom(): U+2581 before the beginning of a word, nothing before its other pieces.
  Status word_piece(const Json& root, const Json& model) {
    tokenizer_.model = "bert";
    if (model.value("continuing_subword_prefix", Json(kWordPiecePrefix)) != kWordPiecePrefix)
      return unsupported("has a WordPiece prefix other than \"##\"");
    PLUMB_TRY(const BertStages stages, named(bert_stages(root)));
    tokenizer_.lowercase = stages.lowercase;
    tokenizer_.strip_accents = stages.strip_accents;
    PLUMB_TRY_STATUS(add_vocabulary(model));
    PLUMB_TRY_STATUS(add_added_tokens(root));
    const Json unknown = model.value("unk_token", Json("[UNK]"));
    if (unknown.is_string()) tokenizer_.unk_id = id_of(unknown.get<std::string>());
    if (!tokenizer_.unk_id) return corrupt("has an unk_token that is not in its vocabulary");
    tokenizer_.token_types[static_cast<std::size_t>(*tokenizer_.unk_id)] = GgufTokenType::kControl;
    PLUMB_TRY(const EdgeIds edges, named(edge_ids(root)));
    if (!edges.first || !edges.last)
      return unsupported(
          "is a WordPiece tokenizer that does not add a token before and after a text, as GGUF's "
          "does");
    PLUMB_TRY(tokenizer_.bos_id, within(*edges.first));
    PLUMB_TRY(tokenizer_.sep_id, within(*edges.last));
    tokenizer_.eos_id = tokenizer_.sep_id;
    tokenizer_.add_bos = true;
    tokenizer_.add_sep = true;
    tokenizer_.add_eos = false;
    PLUMB_TRY_STATUS(pad());
    for (std::size_t i = 0; i < tokenizer_.tokens.size(); ++i) {
      const GgufTokenType type = tokenizer_.token_types[i];
      std::string& text = tokenizer_.tokens[i];
      if (type == GgufTokenType::kControl || type == GgufTokenType::kUserDefined) continue;
      const bool continues =
          text.starts_with(kWordPiecePrefix) && text.size() > kWordPiecePrefix.size();
      if (continues) {
        text.erase(0, kWordPiecePrefix.size());
      } else {
        text.insert(0, kSpace);
      }
    }
    return {};
  }

  Status refuse_affixes(const Json& model) const {
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const Json affix = model.value(key, Json());
      if (affix.is_string() && !affix.get<std::string>().empty())
        return unsupported("has a " + std::string(key) + ", which GGUF cannot hold");
    }
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
      std::string text = token["content"].get<std::string>();
      // llama.cpp looks for them in the text before it writes spaces as U+2581.
      if (!is_special && (tokenizer_.model == "llama" || tokenizer_.model == "t5"))
        text = with_spaces(std::move(text));
      PLUMB_TRY_STATUS(put(text, token["id"],
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

  // "left right", from that or [left, right].
  Result<std::vector<std::string>> read_merges(const Json& model) const {
    if (!model.contains("merges") || !model["merges"].is_array())
      return corrupt("has no list \"merges\"");
    std::vector<std::string> merges;
    for (const Json& merge : model["merges"]) {
      if (merge.is_string()) {
        merges.push_back(merge.get<std::string>());
      } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
                 merge[1].is_string()) {
        merges.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
      } else {
        return corrupt("has a merge that is not two strings");
      }
    }
    return merges;
  }

  std::optional<std::int32_t> id_of(std::string_view text) const {
    const auto found = std::find(tokenizer_.tokens.begin(), tokenizer_.tokens.end(), text);
    if (text.empty() || found == tokenizer_.tokens.end()) return std::nullopt;
    return static_cast<std::int32_t>(found - tokenizer_.tokens.begin());
  }

  Result<std::int32_t> within(std::int64_t id) const {
    if (id < 0 || static_cast<std::uint64_t>(id) >= tokenizer_.tokens.size())
      return corrupt("has a post-processor with the id " + std::to_string(id) +
                     ", outside its vocabulary");
    return static_cast<std::int32_t>(id);
  }

  // Special tokens that the post-processor puts first and last.
  Status add_template(const Json& root) {
    PLUMB_TRY(const EdgeIds edges, named(edge_ids(root)));
    tokenizer_.add_bos = edges.first.has_value();
    tokenizer_.add_eos = edges.last.has_value();
    if (edges.first) {
      PLUMB_TRY(tokenizer_.bos_id, within(*edges.first));
    }
    if (edges.last) {
      PLUMB_TRY(tokenizer_.eos_id, within(*edges.last));
    }
    return {};
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

Status complete_gguf_tokenizer(GgufTokenizer& tokenizer, std::string_view where,
                               const Config& config) {
  Builder builder(where, config);
  PLUMB_TRY(tokenizer, builder.complete(std::move(tokenizer)));
  return {};
}

Result<GgufTokenizer> gguf_tokenizer_from_json(std::string_view json, std::string_view where,
                                               const Config& config) {
  PLUMB_TRY_STATUS(check_json(json, where, kMaxDepth));
  PLUMB_TRY(GgufTokenizer tokenizer,
            Builder(where, config).build(Json::parse(json, nullptr, false)));
  tokenizer.huggingface_json = json;
  return tokenizer;
}

}  // namespace plumb
