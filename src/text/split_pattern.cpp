// Reading and replacing patterns (`tokenizers` 0.23, src/tokenizer/pattern.rs).
#include "text/split_pattern.h"

#include <fmt/format.h>

namespace plumb {

Result<SplitPattern> SplitPattern::regex(std::string_view pattern) {
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

std::string SplitPattern::replace(std::string_view text, std::string_view content) const {
  std::string out;
  out.reserve(text.size());
  split(text, [&](Span span, bool is_match) {
    out.append(is_match ? content : text.substr(span.begin, span.end - span.begin));
  });
  return out;
}

}  // namespace plumb
