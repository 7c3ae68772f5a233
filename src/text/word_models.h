// WordPiece and WordLevel (`tokenizers`, src/models/wordpiece and src/models/wordlevel).
#pragma once
#include "core/result.h"
#include "text/model.h"

namespace plumb {

Result<ModelPtr> read_word_piece(const Json& json, Vocabulary& vocabulary);
Result<ModelPtr> read_word_level(const Json& json, Vocabulary& vocabulary);

// The "vocab" of BPE, WordPiece and WordLevel: an object of pieces and ids.
Status read_vocabulary(const Json& json, Vocabulary& vocabulary);

}  // namespace plumb
