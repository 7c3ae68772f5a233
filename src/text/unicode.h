// Sets of code points and the Unicode 16 properties that tokenizer patterns name (Unicode Standard
// Annex 44).
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/utf8.h"

namespace plumb {

constexpr CodePoint kLastCodePoint = 0x10FFFF;

// Sorted, disjoint, non-adjacent ranges.
class CharSet {
 public:
  struct Range {
    CodePoint first;
    CodePoint last;
  };

  CharSet() = default;

  explicit CharSet(std::vector<Range> ranges);  // in any order

  static CharSet single(CodePoint code) { return CharSet({{code, code}}); }

  bool contains(CodePoint code) const;
  CharSet operator|(const CharSet& other) const;
  CharSet operator&(const CharSet& other) const;
  CharSet operator~() const;

  bool empty() const { return ranges_.empty(); }
  const std::vector<Range>& ranges() const { return ranges_; }

 private:
  std::vector<Range> ranges_;
};

// A pattern that matches one character of `set`.
std::string pattern_of(const CharSet& set);

// The property that \p{name} means: a general category ("L", "Lu"), or one of the scripts Han,
// Hiragana, Katakana, Hangul.
std::optional<CharSet> property_set(std::string_view name);

const CharSet& space_set();  // \s: White_Space
const CharSet& digit_set();  // \d: Nd
const CharSet& word_set();   // \w as Oniguruma has it

}  // namespace plumb
