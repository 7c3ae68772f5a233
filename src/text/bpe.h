// Byte-pair encoding (Sennrich et al., 2016; `tokenizers`, src/models/bpe).
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "text/model.h"

namespace plumb {

struct BpeOptions {
  std::optional<TokenId> unknown;         // without one, a symbol outside the vocabulary vanishes
  std::string continuing_subword_prefix;  // before each symbol but the first
  std::string end_of_word_suffix;         // after the last symbol
  bool fuse_unknown;
  bool byte_fallback;  // a symbol outside the vocabulary becomes its <0xHH>
  bool ignore_merges;  // a piece that is in the vocabulary is not built by merging
};

struct BpeMerge {
  TokenId left;
  TokenId right;
  TokenId merged;
  std::uint32_t rank;  // the lowest goes first; of equal ones the leftmost in the text
};

// `vocabulary` must outlive the model. An error when a pair is there twice.
Result<TokenModelPtr> make_bpe(const Vocabulary& vocabulary, const std::vector<BpeMerge>& merges,
                          BpeOptions options);

Result<TokenModelPtr> read_bpe(const Json& json, Vocabulary& vocabulary);

}  // namespace plumb
