// What llama.cpp's tokenizers do (llama-vocab.cpp) among the stages of tokenizer.json.
#include "io/gguf/tokenizer_stages.h"

#include <nlohmann/json.hpp>

#include "io/gguf/pre_tokenizers.h"

namespace plumb {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kSpace = "\u2581";

Error unsupported(const std::string& what) {
  return {ErrorCode::kUnsupported, what};
}

Error normalizer_error(const Json& stage) {
  return unsupported("has the normalizer " + stage_type(stage) +
                     ", which GGUF cannot hold for this kind of tokenizer");
}

Error pre_tokenizer_error() {
  return unsupported("has a pre-tokenizer that no name in GGUF stands for");
}

bool flag(const Json& stage, const char* key, bool fallback) {
  const auto found = stage.find(key);
  return found != stage.end() && found->is_boolean() ? found->get<bool>() : fallback;
}

std::string text(const Json& stage, const char* key) {
  const auto found = stage.find(key);
  return found != stage.end() && found->is_string() ? found->get<std::string>() : "";
}

// The pattern of a Split or Replace of this kind ("String" or "Regex").
std::optional<std::string> pattern(const Json& stage, const char* kind) {
  const auto found = stage.find("pattern");
  if (found == stage.end() || !found->is_object() || !found->contains(kind)) return std::nullopt;
  return text(*found, kind);
}

bool is_replace(const Json& stage, const char* kind, std::string_view from, std::string_view to) {
  return stage_type(stage) == "Replace" && pattern(stage, kind) == from &&
         text(stage, "content") == to;
}

// Falcon cuts digits after the byte alphabet.
bool is_falcon(const std::vector<Json>& stages) {
  return stages.size() == 4 && stage_type(stages[0]) == "Punctuation" &&
         text(stages[0], "behavior") == "Contiguous" && stage_type(stages[1]) == "ByteLevel" &&
         !flag(stages[1], "add_prefix_space", true) && flag(stages[1], "use_regex", true) &&
         stage_type(stages[2]) == "Digits" && !flag(stages[2], "individual_digits", false) &&
         stage_type(stages[3]) == "Split" && pattern(stages[3], "Regex") == "[0-9][0-9][0-9]" &&
         text(stages[3], "behavior") == "Isolated";
}

Result<std::string> name_of(const std::vector<Json>& stages, bool ignore_merges, bool nfc) {
  if (is_falcon(stages) && !ignore_merges) return std::string("falcon");
  std::vector<std::string> patterns;
  for (const Json& stage : stages) {
    const bool is_last = &stage == &stages.back();
    const std::string type = stage_type(stage);
    if (type == "ByteLevel" && is_last && !flag(stage, "add_prefix_space", true)) {
      if (flag(stage, "use_regex", true)) patterns.emplace_back(kGpt2Pattern);
    } else if (type == "Digits" && !is_last) {
      patterns.emplace_back(flag(stage, "individual_digits", false) ? R"(\p{N})" : R"(\p{N}+)");
    } else if (type == "Split" && !is_last && pattern(stage, "Regex") &&
               text(stage, "behavior") == "Isolated") {
      patterns.push_back(*pattern(stage, "Regex"));
    } else {
      return pre_tokenizer_error();
    }
  }
  const auto name = gguf_pre_tokenizer_name(patterns, ignore_merges, nfc);
  if (!name) return pre_tokenizer_error();
  return std::string(*name);
}

Status read_metaspace(const Json& stage, SentencePieceSpaces& spaces) {
  const std::string scheme = text(stage, "prepend_scheme");
  if (text(stage, "replacement") != kSpace)
    return unsupported("has a Metaspace that does not write U+2581");
  spaces.add_prefix = scheme.empty() ? flag(stage, "add_prefix_space", true) : scheme != "never";
  spaces.splits = flag(stage, "split", true);
  return {};
}

std::optional<std::int64_t> id_of(const Json& ids) {
  if (!ids.is_array() || ids.size() != 1 || !ids[0].is_number_integer()) return std::nullopt;
  return ids[0].get<std::int64_t>();
}

Status read_template(const Json& stage, EdgeIds& edges) {
  const Error error = unsupported(
      "has a post-processor that adds more than one token on a side, which GGUF cannot hold");
  bool after_text = false;
  const auto single = stage.find("single");
  if (single == stage.end() || !single->is_array()) return error;
  for (const Json& part : *single) {
    if (part.is_object() && part.contains("Sequence")) {
      if (after_text) return error;
      after_text = true;
      continue;
    }
    std::optional<std::int64_t>& side = after_text ? edges.last : edges.first;
    if (side || !part.is_object() || !part.contains("SpecialToken")) return error;
    const Json tokens = stage.value("special_tokens", Json::object());
    const auto token = tokens.find(text(part["SpecialToken"], "id"));
    if (token == tokens.end() || !token->is_object()) return error;
    side = id_of(token->value("ids", Json()));
    if (!side) return error;
  }
  return {};
}

// BertProcessing and RobertaProcessing.
Status read_cls_sep(const Json& stage, EdgeIds& edges) {
  for (const char* key : {"cls", "sep"}) {
    const Json pair = stage.value(key, Json());
    if (!pair.is_array() || pair.size() != 2 || !pair[1].is_number_integer())
      return unsupported("has a post-processor without \"" + std::string(key) + "\"");
    (key[0] == 'c' ? edges.first : edges.last) = pair[1].get<std::int64_t>();
  }
  return {};
}

}  // namespace

std::vector<Json> tokenizer_stages(const Json& stage) {
  if (!stage.is_object()) return {};
  if (stage_type(stage) != "Sequence") return {stage};
  std::vector<Json> all;
  for (const char* key : {"normalizers", "pretokenizers", "processors"}) {
    if (!stage.contains(key) || !stage[key].is_array()) continue;
    for (const Json& part : stage[key]) {
      for (Json& inner : tokenizer_stages(part))
        all.push_back(std::move(inner));
    }
  }
  return all;
}

std::string stage_type(const Json& stage) {
  return stage.is_object() ? text(stage, "type") : "";
}

Result<std::string> gguf_pre_of(const Json& root, bool ignore_merges) {
  bool nfc = false;
  for (const Json& stage : tokenizer_stages(root.value("normalizer", Json()))) {
    if (stage_type(stage) != "NFC") return normalizer_error(stage);
    nfc = true;
  }
  return name_of(tokenizer_stages(root.value("pre_tokenizer", Json())), ignore_merges, nfc);
}

Result<SentencePieceSpaces> sentencepiece_spaces(const Json& root, bool is_unigram) {
  SentencePieceSpaces spaces;
  bool escapes = false;
  for (const Json& stage : tokenizer_stages(root.value("normalizer", Json()))) {
    if (stage_type(stage) == "Prepend" && text(stage, "prepend") == kSpace && !is_unigram) {
      spaces.add_prefix = true;
    } else if (is_replace(stage, "String", " ", kSpace)) {
      escapes = true;
    } else if (is_unigram && stage_type(stage) == "Precompiled" && spaces.charsmap.empty()) {
      spaces.charsmap = text(stage, "precompiled_charsmap");
    } else if (is_unigram && (is_replace(stage, "Regex", " {2,}", " ") ||
                              is_replace(stage, "Regex", " {2,}", kSpace))) {
      spaces.collapses = true;
    } else if (is_unigram && stage_type(stage) == "Strip" && flag(stage, "strip_right", true)) {
      continue;  // SentencePiece's own removal of spaces at the ends
    } else {
      return normalizer_error(stage);
    }
  }
  for (const Json& stage : tokenizer_stages(root.value("pre_tokenizer", Json()))) {
    if (stage_type(stage) == "Metaspace") {
      PLUMB_TRY_STATUS(read_metaspace(stage, spaces));
      escapes = true;
    } else if (stage_type(stage) == "Split" && pattern(stage, "String") == " " && escapes) {
      continue;  // no space is left to cut at (Gemma)
    } else if (is_unigram && stage_type(stage) == "WhitespaceSplit") {
      spaces.collapses = true;
    } else {
      return pre_tokenizer_error();
    }
  }
  if (!escapes)
    return unsupported("does not write spaces as U+2581, as GGUF's SentencePiece tokenizers do");
  return spaces;
}

Result<BertStages> bert_stages(const Json& root) {
  const std::vector<Json> normalizers = tokenizer_stages(root.value("normalizer", Json()));
  const std::vector<Json> pre_tokenizers = tokenizer_stages(root.value("pre_tokenizer", Json()));
  const bool is_bert = normalizers.size() == 1 && stage_type(normalizers[0]) == "BertNormalizer" &&
                       flag(normalizers[0], "clean_text", true) &&
                       flag(normalizers[0], "handle_chinese_chars", true) &&
                       pre_tokenizers.size() == 1 &&
                       stage_type(pre_tokenizers[0]) == "BertPreTokenizer";
  if (!is_bert)
    return unsupported("has a WordPiece model without BERT's own normalizer and pre-tokenizer");
  const bool lowercase = flag(normalizers[0], "lowercase", true);
  return BertStages{lowercase, flag(normalizers[0], "strip_accents", lowercase)};
}

Result<EdgeIds> edge_ids(const Json& root) {
  EdgeIds edges;
  for (const Json& stage : tokenizer_stages(root.value("post_processor", Json()))) {
    const std::string type = stage_type(stage);
    if (type == "TemplateProcessing") PLUMB_TRY_STATUS(read_template(stage, edges));
    if (type == "BertProcessing" || type == "RobertaProcessing")
      PLUMB_TRY_STATUS(read_cls_sep(stage, edges));
  }
  return edges;
}

}  // namespace plumb
