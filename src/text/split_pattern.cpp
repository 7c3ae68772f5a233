// Reading and replacing patterns (`tokenizers` 0.23, src/tokenizer/pattern.rs).
#include "text/split_pattern.h"

#include <fmt/format.h>

#include "text/unicode.h"

namespace plumb {

Result<SplitPattern> SplitPattern::regex(std::string_view pattern) {
  if (pattern == R"(\d{1,3}(?=(?:\d{3})*\b))") return SplitPattern(DigitGroups::kMatches);
  if (pattern == R"((?=(\d{3})+(?!\d)))") return SplitPattern(DigitGroups::kBoundaries);
  PLUMB_TRY(Regex compiled, Regex::compile(pattern));
  return SplitPattern(std::move(compiled));
}

Result<SplitPattern> SplitPattern::read(const Json& owner) {
  PLUMB_TRY(const Json pattern, owner.at("pattern"));
  PLUMB_TRY(const std::optional<std::string_view> text, pattern.find_string("String"));
  if (text) return literal(*text);
  PLUMB_TRY(const std::string_view expression, pattern.string_at("Regex"));
  Result<SplitPattern> compiled = regex(expression);
  if (!compiled.ok()) {
    return Error{compiled.error().code,
                 fmt::format("{}: {}", pattern.where(), compiled.error().message)};
  }
  return compiled;
}

std::vector<Span> SplitPattern::digit_groups(std::string_view text, DigitGroups kind) {
  constexpr std::size_t kGroup = 3;
  std::vector<Span> matches;
  std::vector<std::size_t> run;  // where each digit of a run begins, then where the run ends
  const auto end_of_run = [&](bool letter_follows) {
    const std::size_t digits = run.size() - 1;
    const std::size_t first = digits % kGroup == 0 ? kGroup : digits % kGroup;
    if (kind == DigitGroups::kBoundaries) {
      for (std::size_t i = digits % kGroup; i < digits; i += kGroup)
        matches.push_back({run[i], run[i]});
    } else if (!letter_follows) {
      for (std::size_t begin = 0, end = first; end <= digits; begin = end, end += kGroup)
        matches.push_back({run[begin], run[end]});
    }
    run.clear();
  };
  for (std::size_t i = 0; i < text.size();) {
    const Decoded c = decode_at(text, i);
    const bool is_digit = digit_set().contains(c.code);
    if (is_digit || !run.empty()) run.push_back(i);
    if (!is_digit && !run.empty()) end_of_run(word_set().contains(c.code));
    i += c.size;
  }
  if (!run.empty()) {
    run.push_back(text.size());
    end_of_run(false);
  }
  return matches;
}

std::string SplitPattern::replace(std::string_view text, std::string_view content) const {
  std::string out;
  out.reserve(text.size());
  split(text, [&](Span span, bool is_match) {
    out.append(is_match ? content : text.substr(span.begin, span.end - span.begin));
  });
  return out;
}

}  // namespace plumb
