// Patterns of tensor names.
#include "io/name_pattern.h"

namespace plumb {
namespace {

constexpr std::string_view kLayer = "{i}";
constexpr std::string_view kExpert = "{e}";

std::size_t digits_at_start(std::string_view text) {
  std::size_t count = 0;
  while (count < text.size() && text[count] >= '0' && text[count] <= '9')
    ++count;
  return count;
}

}  // namespace

std::optional<PatternMatch> match_pattern(std::string_view pattern, std::string_view name) {
  PatternMatch match;
  while (!pattern.empty()) {
    if (pattern == "*") return match;
    const bool layer = pattern.starts_with(kLayer);
    if (layer || pattern.starts_with(kExpert)) {
      const std::size_t digits = digits_at_start(name);
      if (digits == 0) return std::nullopt;
      (layer ? match.layer : match.expert) = name.substr(0, digits);
      pattern.remove_prefix(kLayer.size());
      name.remove_prefix(digits);
      continue;
    }
    if (name.empty() || name.front() != pattern.front()) return std::nullopt;
    pattern.remove_prefix(1);
    name.remove_prefix(1);
  }
  return name.empty() ? std::optional(match) : std::nullopt;
}

std::string fill_pattern(std::string_view pattern, const PatternMatch& match) {
  std::string name;
  while (!pattern.empty()) {
    const bool layer = pattern.starts_with(kLayer);
    if (layer || pattern.starts_with(kExpert)) {
      name += layer ? match.layer : match.expert;
      pattern.remove_prefix(kLayer.size());
    } else {
      name += pattern.front();
      pattern.remove_prefix(1);
    }
  }
  return name;
}

}  // namespace plumb
