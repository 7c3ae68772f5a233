// The tokenizer that a GGUF file carries in its metadata, as plain data; what the fields mean is llama.cpp's business
// (llama-vocab.cpp), and text/ turns them into a tokenizer. Counts that belong together have been checked: token_types and
// scores are empty or have one entry per token, ids lie inside the vocabulary.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace plumb {

// tokenizer.ggml.token_type: llama.h, enum llama_token_type.
enum class GgufTokenType : std::int32_t {
  kUndefined = 0,
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

struct GgufTokenizer {
  std::string model;  // tokenizer.ggml.model: "gpt2", "llama", "bert", "t5", "rwkv", …
  std::string pre;    // tokenizer.ggml.pre, "" when absent
  std::vector<std::string> tokens;  // may hold bytes that are not UTF-8
  std::vector<float> scores;
  std::vector<GgufTokenType> token_types;
  std::vector<std::string> merges;  // "left right"
  std::optional<std::int32_t> bos_id;
  std::optional<std::int32_t> eos_id;
  std::optional<std::int32_t> eot_id;  // end of a turn, where it is not eos
  std::optional<std::int32_t> eom_id;
  std::optional<std::int32_t> unk_id;
  std::optional<std::int32_t> sep_id;
  std::optional<std::int32_t> pad_id;
  std::optional<std::int32_t> mask_id;
  std::optional<bool> add_bos;  // absent: the default of `model` and `pre` holds
  std::optional<bool> add_eos;
  std::optional<bool> add_sep;
  std::optional<bool> add_space_prefix;
  std::optional<bool> remove_extra_whitespaces;
  std::vector<std::byte> precompiled_charsmap;  // Unigram's normalizer
  std::optional<bool> lowercase;                // WordPiece's normalizer
  std::optional<bool> strip_accents;
  std::string
      huggingface_json;       // the whole tokenizer.json where the file carries it, "" when absent
  std::string chat_template;  // "" when absent
};

}  // namespace plumb
