// Patterns of tensor names: {i} and {e} each stand for a run of digits, a trailing * for anything.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace plumb {

struct PatternMatch {
  std::string_view layer;   // the digits of {i}, "" where the pattern has none
  std::string_view expert;  // the digits of {e}
};

std::optional<PatternMatch> match_pattern(std::string_view pattern, std::string_view name);

// `pattern` with the digits of `match` in place of {i} and {e}.
std::string fill_pattern(std::string_view pattern, const PatternMatch& match);

}  // namespace plumb
