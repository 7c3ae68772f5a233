// Unigram language models (Kudo, 2018; `tokenizers`, src/models/unigram): the segmentation with the highest score.
#pragma once
#include <utility>
#include <vector>

#include "core/result.h"
#include "text/model.h"

namespace plumb {

struct UnigramPiece {
  TokenId id;
  double score;
};

// `pieces` are those that may be found in text; `unknown` stands for what none of them covers. `vocabulary` must outlive it.
TokenModelPtr make_unigram(const Vocabulary& vocabulary, const std::vector<UnigramPiece>& pieces,
                      TokenId unknown, bool byte_fallback);

Result<TokenModelPtr> read_unigram(const Json& json, Vocabulary& vocabulary);

}  // namespace plumb
