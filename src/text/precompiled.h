// The normalizer that SentencePiece compiles into a model, as `tokenizers` applies it and as sentencepiece does.
#pragma once
#include "text/chars_map.h"
#include "text/normalizer.h"

namespace plumb {

// `tokenizers`: by grapheme clusters, the shortest key.
NormalizerPtr make_precompiled(CharsMap map);

// sentencepiece: the longest key at each position.
NormalizerPtr make_sentencepiece_map(CharsMap map);

}  // namespace plumb
