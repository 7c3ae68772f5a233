// What transformers adds to a tiktoken rank file (convert_slow_tokenizer.py, TikTokenConverter).
#pragma once
#include <string_view>

#include "io/tokenizer_config.h"
#include "text/tokenizer.h"

namespace plumb {

// Whether the first line is a token in base64 and a rank.
bool is_tiktoken(std::string_view bytes);

// The pattern that transformers takes for every such file, and the added tokens of tokenizer_config.json.
TiktokenSettings tiktoken_settings(const TokenizerConfig& config);

}  // namespace plumb
