// The normalizer, pre-tokenizer and post-processor of a tokenizer.json, as far as GGUF's keys can say them.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace plumb {

// What a Sequence holds, in its order; one stage alone; nothing for null.
std::vector<nlohmann::json> tokenizer_stages(const nlohmann::json& stage);

std::string stage_type(const nlohmann::json& stage);  // "" when it has none

// tokenizer.ggml.pre of byte-level BPE. An error when no name stands for its stages.
Result<std::string> gguf_pre_of(const nlohmann::json& root, bool ignore_merges);

// How a SentencePiece tokenizer treats spaces.
struct SentencePieceSpaces {
  bool add_prefix = false;
  bool splits = false;     // a piece never goes past the beginning of a word
  bool collapses = false;  // several spaces are one
  std::string charsmap;    // base64, "" for none
};

Result<SentencePieceSpaces> sentencepiece_spaces(const nlohmann::json& root, bool is_unigram);

struct BertStages {
  bool lowercase = true;
  bool strip_accents = true;
};

Result<BertStages> bert_stages(const nlohmann::json& root);

// The special tokens that the post-processor puts around a text; an error for more than one on a side.
struct EdgeIds {
  std::optional<std::int64_t> first;
  std::optional<std::int64_t> last;
};

Result<EdgeIds> edge_ids(const nlohmann::json& root);

}  // namespace plumb
