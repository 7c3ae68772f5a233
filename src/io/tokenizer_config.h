// tokenizer_config.json, as far as a tokenizer without a tokenizer.json needs it (transformers, tokenization_utils_base.py).
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace plumb {

struct TokenizerConfig {
  struct Token {
    std::int32_t id;
    std::string content;
    bool special;
  };

  std::optional<bool> add_bos;
  std::optional<bool> add_eos;
  std::vector<Token> added_tokens;  // added_tokens_decoder; ids below 2^24
  std::string chat_template;        // of several the one named "default"; "" when there is none
};

// `json` is the file's text, `where` its name.
Result<TokenizerConfig> parse_tokenizer_config(std::string_view json, std::string_view where);

}  // namespace plumb
