// A tokenizer.json as what GGUF's metadata can hold of it.
#pragma once
#include <string_view>

#include "core/result.h"
#include "io/config.h"
#include "io/gguf/tokenizer_data.h"

namespace plumb {

// `json` is the text of a tokenizer.json, `where` its file: byte-level BPE whose pre-tokenizer llama.cpp knows by a name, BPE with
// byte fallback ("llama"), Unigram ("t5") and BERT's WordPiece ("bert"). What those cannot say, such as a normalizer or how added
// tokens strip spaces, only the embedded text says. What they would get wrong is an error that names it. Special ids come from
// `config`, the vocabulary is padded to its size.
Result<GgufTokenizer> gguf_tokenizer_from_json(std::string_view json, std::string_view where,
                                               const Config& config);

// Pads the tokens to the vocabulary of `config` and takes the special ids from it that the tokenizer does not have.
Status complete_gguf_tokenizer(GgufTokenizer& tokenizer, std::string_view where,
                               const Config& config);

}  // namespace plumb
