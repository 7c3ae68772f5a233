// Pre-tokenizers of tokenizer.json: text into pieces, of which the model encodes each alone
// (`tokenizers`, src/pre_tokenizers).
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "text/json.h"

namespace plumb {

// Non-empty pieces, one after the other in one buffer.
struct Pieces {
  std::string text;
  std::vector<std::size_t> ends;  // ascending; piece i is text[ends[i - 1], ends[i])
  bool starts_input;              // the first piece begins where the tokenizer's input began

  template <class Each>
  void for_each(const Each& each) const {
    std::size_t begin = 0;
    for (const std::size_t end : ends) {
      each(std::string_view(text).substr(begin, end - begin), begin);
      begin = end;
    }
  }
};

class PreTokenizer {
 public:
  PreTokenizer() = default;
  PreTokenizer(const PreTokenizer&) = delete;
  PreTokenizer& operator=(const PreTokenizer&) = delete;
  virtual ~PreTokenizer() = default;

  virtual void apply(Pieces& pieces) const = 0;
};

using PreTokenizerPtr = std::unique_ptr<const PreTokenizer>;

// An unknown type is an error that names it.
Result<PreTokenizerPtr> read_pre_tokenizer(const Json& json);

// The patterns in turn, each to every piece so far, then the byte alphabet where `byte_level`.
Result<PreTokenizerPtr> make_splits(const std::vector<std::string>& patterns, bool byte_level);

Result<PreTokenizerPtr> make_bert_pre_tokenizer();

}  // namespace plumb
