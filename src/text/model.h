// Models of tokenizer.json: a piece of text into ids (`tokenizers`, src/models).
#pragma once
#include <memory>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "text/json.h"
#include "text/pre_tokenizer.h"
#include "text/vocabulary.h"

namespace plumb {

class TokenModel {
 public:
  // What one call of encode() keeps between pieces; belongs to one thread.
  class Scratch {
   public:
    Scratch() = default;
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    virtual ~Scratch() = default;
  };

  TokenModel() = default;
  TokenModel(const TokenModel&) = delete;
  TokenModel& operator=(const TokenModel&) = delete;
  virtual ~TokenModel() = default;

  virtual std::unique_ptr<Scratch> make_scratch(std::size_t text_bytes) const = 0;
  // Appends the ids of all pieces.
  virtual void encode(const Pieces& pieces, Scratch& scratch, std::vector<TokenId>& ids) const = 0;
};

using TokenModelPtr = std::unique_ptr<const TokenModel>;

// Reads the model of tokenizer.json and puts its pieces into `vocabulary`. An unknown type is an
// error that names it.
Result<TokenModelPtr> read_model(const Json& json, Vocabulary& vocabulary);

}  // namespace plumb
