// Stage names by pattern and by layer.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "parity/trace_writer.h"

namespace plumb {
namespace {

Error refuse(const std::string& what) {
  return {ErrorCode::kInvalidArgument, what};
}

// * stands for anything; on a mismatch the last * takes one more character, so the time is the product of the lengths.
bool matches(std::string_view pattern, std::string_view name) {
  std::size_t p = 0;
  std::size_t n = 0;
  std::size_t star = std::string_view::npos;
  std::size_t taken = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      taken = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++taken;
    } else {
      return false;
    }
  }
  return std::all_of(pattern.begin() + static_cast<std::ptrdiff_t>(p), pattern.end(),
                     [](char c) { return c == '*'; });
}

Result<int> layer_number(std::string_view text, const std::string& list, int layers) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc() || end != text.data() + text.size() || number < 0 ||
      number >= layers) {
    return refuse(fmt::format("--layers {}: '{}' is not a layer from 0 to {}", list.substr(0, 80),
                              text.substr(0, 40), layers - 1));
  }
  return number;
}

Result<std::set<int>> layer_set(const std::string& list, int layers) {
  std::set<int> chosen;
  for (std::size_t at = 0; at <= list.size();) {
    const std::size_t end = std::min(list.find(',', at), list.size());
    const std::string_view part = std::string_view(list).substr(at, end - at);
    const std::size_t dash = part.find('-');
    PLUMB_TRY(const int first, layer_number(part.substr(0, dash), list, layers));
    int last = first;
    if (dash != std::string_view::npos) {
      PLUMB_TRY(last, layer_number(part.substr(dash + 1), list, layers));
    }
    if (last < first)
      return refuse(
          fmt::format("--layers {}: '{}' ends before it begins", list.substr(0, 80), part));
    for (int layer = first; layer <= last; ++layer)
      chosen.insert(layer);
    at = end + 1;
  }
  return chosen;
}

}  // namespace

Result<StageFilter> StageFilter::parse(const Graph& graph, const std::vector<std::string>& patterns,
                                       const std::optional<std::string>& layers) {
  std::set<int> chosen;
  if (layers) {
    PLUMB_TRY(chosen, layer_set(*layers, graph.layers()));
  }
  StageFilter filter;
  std::vector<bool> used(patterns.size(), false);
  for (const Stage& stage : graph.stages) {
    const bool inputs = std::holds_alternative<Tokens>(stage.operation) ||
                        std::holds_alternative<Positions>(stage.operation);
    for (const Output& output : stage.outputs) {
      bool matched = patterns.empty();
      for (std::size_t i = 0; i < patterns.size() && !inputs; ++i) {
        if (!matches(patterns[i], output.name)) continue;
        matched = true;
        used[i] = true;
      }
      const bool in_layers = !layers || stage.layer < 0 || chosen.contains(stage.layer);
      if (matched && in_layers && !inputs) filter.names_.insert(output.name);
    }
  }
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    if (!used[i])
      return refuse(
          fmt::format("--stages '{}': the model has no such stage", patterns[i].substr(0, 80)));
  }
  return filter;
}

}  // namespace plumb
