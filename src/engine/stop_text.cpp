// One automaton per stop text; the longest partial match is what must be held back.
#include "engine/stop_text.h"

#include <algorithm>
#include <utility>

namespace plumb {

StopText::Matcher::Matcher(std::string value) : text(std::move(value)), fallback(text.size(), 0) {
  std::size_t length = 0;
  for (std::size_t i = 1; i < text.size(); ++i) {
    while (length > 0 && text[i] != text[length])
      length = fallback[length - 1];
    if (text[i] == text[length]) ++length;
    fallback[i] = length;
  }
}

void StopText::Matcher::advance(char byte) {
  while (matched > 0 && text[matched] != byte)
    matched = fallback[matched - 1];
  if (text[matched] == byte) ++matched;
}

StopText::StopText(const std::vector<std::string>& texts) : matchers_(texts.begin(), texts.end()) {}

std::string StopText::push(std::string_view piece) {
  std::string shown;
  for (const char byte : piece) {
    if (found_) break;
    held_ += byte;
    std::size_t keep = 0;
    std::size_t complete = 0;  // of several that end here, the one that began first
    for (Matcher& matcher : matchers_) {
      matcher.advance(byte);
      keep = std::max(keep, matcher.matched);
      if (matcher.matched == matcher.text.size()) complete = std::max(complete, matcher.matched);
    }
    found_ = complete > 0;
    const std::size_t release = held_.size() - (found_ ? complete : keep);
    shown.append(held_, 0, release);
    held_.erase(0, release);
  }
  if (found_) held_.clear();
  return shown;
}

std::string StopText::finish() {
  return std::exchange(held_, {});
}

}  // namespace plumb
