// Which model a tokenizer.json has.
#include "text/model.h"

#include <fmt/format.h>

#include "text/bpe.h"
#include "text/unigram.h"
#include "text/word_models.h"

namespace plumb {

Result<TokenModelPtr> read_model(const Json& json, Vocabulary& vocabulary) {
  // Files of before 2020 have no type; theirs is BPE when there are merges.
  PLUMB_TRY(const std::optional<std::string_view> type, json.find_string("type"));
  PLUMB_TRY(const std::optional<Json> merges, json.find("merges"));
  if (type == "BPE" || (!type && merges)) return read_bpe(json, vocabulary);
  if (type == "Unigram") return read_unigram(json, vocabulary);
  if (type == "WordPiece") return read_word_piece(json, vocabulary);
  if (type == "WordLevel") return read_word_level(json, vocabulary);
  return Error{ErrorCode::kUnsupported,
               fmt::format("{} has the unknown type \"{}\"", json.where(), type.value_or(""))};
}

}  // namespace plumb
