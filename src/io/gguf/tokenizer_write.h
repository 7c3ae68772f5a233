// A tokenizer.json as what GGUF's metadata can hold of it.
#pragma once
#include <string_view>

#include "core/result.h"
#include "io/config.h"
#include "io/gguf/tokenizer_data.h"

namespace plumb {

// `json` is the text of a tokenizer.json, `where` its file. Byte-level BPE whose pre-tokenizer llama.cpp knows by a name;
// another kind is an error that says so. Special ids come from `config`, the vocabulary is padded to its size.
Result<GgufTokenizer> gguf_tokenizer_from_json(std::string_view json, std::string_view where,
                                               const Config& config);

}  // namespace plumb
