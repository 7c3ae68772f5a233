// The "pattern" member of tokenizer.json's Split and Replace: a literal string or a regular
// expression.
#pragma once
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/result.h"
#include "text/json.h"
#include "text/regex.h"

namespace plumb {

// Digits in threes from the right: the two published patterns whose lookahead needs more than one character, and which a
// matcher that tries each position would take quadratic time for.
enum class DigitGroups : unsigned char {
  kMatches,  // \d{1,3}(?=(?:\d{3})*\b): each group is a match, where no letter follows the run (Cohere)
  kBoundaries,  // (?=(\d{3})+(?!\d)): an empty match before each full group (SuperBPE)
};

class SplitPattern {
 public:
  static Result<SplitPattern> read(
      const Json& owner);  // {"String": ...} or {"Regex": ...} under "pattern"
  static SplitPattern literal(std::string_view text) { return SplitPattern(std::string(text)); }
  static Result<SplitPattern> regex(std::string_view pattern);

  // Calls each(span, is_match) for the matches and for what lies between them, from left to right.
  template <class Each>
  void split(std::string_view text, const Each& each) const;

  std::string replace(std::string_view text, std::string_view content) const;

 private:
  using Pattern = std::variant<std::string, Regex, DigitGroups>;

  explicit SplitPattern(Pattern pattern) : pattern_(std::move(pattern)) {}

  static std::vector<Span> digit_groups(std::string_view text, DigitGroups kind);

  Pattern pattern_;
};

template <class Each>
void SplitPattern::split(std::string_view text, const Each& each) const {
  std::size_t done = 0;
  const auto found = [&](Span match) {
    if (match.begin > done) each(Span{done, match.begin}, false);
    each(match, true);
    done = match.end;
  };
  if (const auto* regex = std::get_if<Regex>(&pattern_)) {
    RegexSearch search(*regex, text);
    while (const std::optional<Span> match = search.next())
      found(*match);
  } else if (const auto* groups = std::get_if<DigitGroups>(&pattern_)) {
    for (const Span match : digit_groups(text, *groups))
      found(match);
  } else {
    const std::string& literal = std::get<std::string>(pattern_);
    std::size_t at = literal.empty() ? std::string_view::npos : text.find(literal);
    for (; at != std::string_view::npos; at = text.find(literal, done)) {
      found({at, at + literal.size()});
    }
  }
  if (done < text.size()) each(Span{done, text.size()}, false);
}

}  // namespace plumb
