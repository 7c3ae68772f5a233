// What a tokenizer is made of: the stages that text runs through, and the way back. Readers of file
// formats fill it.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "text/added_tokens.h"
#include "text/decoder.h"
#include "text/model.h"
#include "text/normalizer.h"
#include "text/post_processor.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace plumb {

struct TokenizerParts {
  Vocabulary model_vocabulary;
  Vocabulary added_vocabulary;  // the added tokens that the model does not have
  NormalizerPtr normalizer;     // may be null, as may the pre-tokenizer and the decoder
  std::unique_ptr<const AddedTokens> added;
  PreTokenizerPtr pre_tokenizer;
  TokenModelPtr model;  // refers to model_vocabulary
  PostProcessor post_processor;
  TokenDecoderPtr decoder;

  // Puts `tokens` beside the model's vocabulary. The normalizer must be there already.
  Status add_tokens(std::vector<AddedToken> tokens);

  std::optional<std::string_view> piece(TokenId id) const;
  std::string decode(std::span<const TokenId> ids, bool skip_special, InvalidBytes invalid) const;

  static Tokenizer build(std::unique_ptr<const TokenizerParts> parts) {
    return Tokenizer(std::move(parts));
  }
};

}  // namespace plumb
