// What transformers adds to a tiktoken rank file (convert_slow_tokenizer.py, TikTokenConverter).
#pragma once
#include <string_view>

#include "core/result.h"
#include "text/tokenizer.h"

namespace plumb {

// Whether the first line is a token in base64 and a rank.
bool is_tiktoken(std::string_view bytes);

// The pattern that transformers takes for every such file, and the special tokens of tokenizer_config.json's
// added_tokens_decoder. `json` is that file's text, `where` its name.
Result<TiktokenSettings> tiktoken_settings(std::string_view json, std::string_view where);

}  // namespace plumb
