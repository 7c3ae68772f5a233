// The pattern language of tokenizer files: the part of Oniguruma's Ruby syntax (doc/RE of
// Oniguruma 6.9) that one pass over the text can match: sets, groups, alternatives, repeats, and
// lookahead of one character.
#pragma once
#include <string_view>
#include <vector>

#include "core/result.h"
#include "text/unicode.h"

namespace plumb {

struct RegexNode {
  enum class Kind : unsigned char { kSet, kConcat, kAlternate, kRepeat, kLookahead };
  static constexpr int kNoMaximum = -1;

  Kind kind;
  CharSet set;       // kSet: the character; kLookahead: what may follow
  bool end_allowed;  // kLookahead: the end of the text may follow
  std::vector<RegexNode> children;
  int minimum;  // kRepeat
  int maximum;  // kRepeat; kNoMaximum without one
  bool lazy;    // kRepeat: prefers fewer
};

// The error names the pattern, the position and what is not supported there.
Result<RegexNode> parse_regex(std::string_view pattern);

}  // namespace plumb
