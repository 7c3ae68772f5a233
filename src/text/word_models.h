// WordPiece and WordLevel (`tokenizers`, src/models/wordpiece and src/models/wordlevel).
#pragma once
#include <cstdint>
#include <string_view>

#include "core/result.h"
#include "text/model.h"

namespace plumb {

// `vocabulary` must outlive the model; pieces that go on a word begin with `prefix`. Words of more characters are unknown.
TokenModelPtr make_word_piece(const Vocabulary& vocabulary, TokenId unknown, std::string_view prefix,
                         std::int64_t max_characters);

Result<TokenModelPtr> read_word_piece(const Json& json, Vocabulary& vocabulary);
Result<TokenModelPtr> read_word_level(const Json& json, Vocabulary& vocabulary);

// The "vocab" of BPE, WordPiece and WordLevel: an object of pieces and ids.
Status read_vocabulary(const Json& json, Vocabulary& vocabulary);

}  // namespace plumb
