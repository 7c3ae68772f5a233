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
  explicit SplitPattern(std::variant<std::string, Regex> pattern) : pattern_(std::move(pattern)) {}

  std::variant<std::string, Regex> pattern_;
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
