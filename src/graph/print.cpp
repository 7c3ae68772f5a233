// The words come from graph/fields.h and core/source_names.h, so that a new field or value is printed without a change here.
#include "graph/print.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "core/source_names.h"
#include "graph/fields.h"

namespace plumb {
namespace {

template <class T>
FieldValue field_value(const T& value) {
  if constexpr (std::is_enum_v<T>) {
    return enum_name(value);
  } else {
    return value;
  }
}

template <class T>
FieldValue field_value(const std::optional<T>& value) {
  return value ? field_value(*value) : FieldValue();
}

template <class Variant>
std::vector<Field> fields_of(const Variant& variant) {
  std::vector<Field> result;
  std::visit(
      [&](const auto& kind) {
        visit_fields(kind, [&](std::string_view name, const auto& value) {
          result.push_back({.name = std::string(name), .value = field_value(value)});
        });
      },
      variant);
  return result;
}

std::string replace_once(std::string text, const std::string& what, std::string_view with) {
  const std::size_t at = text.find(what);
  return at == std::string::npos ? text : text.replace(at, what.size(), with);
}

// What a stage reads: "in" is what the stage before the layer yields, so that the first layer is like the others.
std::string operand_name(const Graph& graph, Value value, int layer, int first_stage) {
  if (value.stage == first_stage - 1) return fmt::format("in {}", value.output);
  return name_in_layer(graph.output(value).name, layer);
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// A name taken apart: "a.{}.b.{}" and the numbers between.
struct Pattern {
  std::string text;
  std::vector<int> numbers;
};

Pattern pattern_of(const std::string& name) {
  constexpr std::size_t kMostDigits = 9;
  Pattern pattern;
  for (std::size_t i = 0; i < name.size();) {
    std::size_t end = i;
    while (end < name.size() && is_digit(name[end]))
      ++end;
    const bool whole = end > i && end - i <= kMostDigits && (name[i] != '0' || end == i + 1) &&
                       (i == 0 || name[i - 1] == '.') && (end == name.size() || name[end] == '.');
    if (whole) {
      pattern.text += "{}";
      pattern.numbers.push_back(std::stoi(name.substr(i, end - i)));
    } else {
      end = std::max(end, i + 1);
      pattern.text.append(name, i, end - i);
    }
    i = end;
  }
  return pattern;
}

// The common name of patterns with one text; nothing unless they are all combinations of their numbers.
std::optional<std::string> common_name(const std::vector<Pattern>& patterns) {
  std::string name = patterns.front().text;
  std::size_t combinations = 1;
  std::size_t at = 0;
  for (std::size_t slot = 0; slot < patterns.front().numbers.size(); ++slot) {
    std::set<int> values;
    for (const Pattern& pattern : patterns)
      values.insert(pattern.numbers[slot]);
    combinations *= values.size();
    const std::string numbers = ranges({values.begin(), values.end()});
    const std::string shown = values.size() == 1 ? numbers : "{" + numbers + "}";
    at = name.find("{}", at);
    name.replace(at, 2, shown);
    at += shown.size();
  }
  if (combinations != patterns.size()) return std::nullopt;
  return name;
}

// Everything about a stage but its layer's number.
std::string signature(const Graph& graph, const Stage& stage, int first_stage) {
  std::string text = name_in_layer(stage.name, stage.layer) + " " + operation_name(stage.operation);
  for (const Field& field : fields(stage.operation))
    text += "; " + field.name + " " + to_string(field.value);
  for (const Value input : stage.inputs)
    text += "; from " + operand_name(graph, input, stage.layer, first_stage);
  for (const int index : stage.params) {
    const Param& param = graph.params[static_cast<std::size_t>(index)];
    text += "; " + name_in_layer(param.name, stage.layer) + to_string(param.shape);
  }
  for (const int index : stage.states) {
    const State& state = graph.states[static_cast<std::size_t>(index)];
    text += "; remembers " + state_name(state);
    for (const Field& field : fields(state))
      text += " " + field.name + " " + to_string(field.value);
  }
  for (const Output& output : stage.outputs)
    text += "; " + name_in_layer(output.name, stage.layer) + to_string(output.shape);
  return text;
}

}  // namespace

std::vector<Field> fields(const Operation& operation) {
  return fields_of(operation);
}

std::vector<Field> fields(const State& state) {
  return fields_of(state.kind);
}

std::string to_string(const FieldValue& value) {
  struct Words {
    std::string operator()(std::monostate) const { return "none"; }
    std::string operator()(bool flag) const { return flag ? "yes" : "no"; }
    std::string operator()(std::int64_t number) const { return std::to_string(number); }
    std::string operator()(double number) const { return fmt::format("{}", number); }
    std::string operator()(const std::string& name) const { return name; }
    std::string operator()(const std::vector<std::int64_t>& numbers) const {
      return fmt::format("{}", numbers);
    }
    std::string operator()(const std::vector<double>& numbers) const {
      return fmt::format("{}", numbers);
    }
  };
  return std::visit(Words(), value);
}

std::string operation_name(const Operation& operation) {
  return std::visit([]<class T>(const T& /*op*/) { return type_name<T>(); }, operation);
}

std::string state_name(const State& state) {
  const std::string name =
      std::visit([]<class T>(const T& /*kind*/) { return type_name<T>(); }, state.kind);
  return name.substr(0, name.rfind("_state"));
}

StateSize size(const State& state) {
  struct Size {
    StateSize operator()(const KeyValueState& kind) const {
      return {.per_token = kind.heads * (kind.key_dim + kind.value_dim), .fixed = 0};
    }
    StateSize operator()(const ConvolutionState& kind) const {
      return {.per_token = 0, .fixed = kind.channels * (kind.taps - 1)};
    }
    StateSize operator()(const RecurrentState& kind) const {
      return {.per_token = 0, .fixed = kind.heads * kind.key_dim * kind.value_dim};
    }
    StateSize operator()(const WindowState& kind) const {
      return {.per_token = 0, .fixed = kind.width * (kind.window - 1)};
    }
    StateSize operator()(const RemainderState& kind) const {
      return {.per_token = 0, .fixed = 2 * kind.width * kind.tokens};
    }
    StateSize operator()(const ListState& kind) const {
      return {.per_token = (kind.width + kind.ratio - 1) / kind.ratio, .fixed = 0};
    }
  };
  return std::visit(Size(), state.kind);
}

std::vector<LayerGroup> alike_layers(const Graph& graph) {
  std::map<int, std::vector<int>> stages_of_layer;
  for (std::size_t i = 0; i < graph.stages.size(); ++i) {
    const int layer = graph.stages[i].layer;
    if (layer >= 0) stages_of_layer[layer].push_back(static_cast<int>(i));
  }
  std::vector<LayerGroup> groups;
  std::map<std::string, std::size_t> group_of_signature;
  for (const auto& [layer, stages] : stages_of_layer) {
    std::string text;
    for (const int stage : stages) {
      text +=
          signature(graph, graph.stages[static_cast<std::size_t>(stage)], stages.front()) + "\n";
    }
    const auto [found, is_new] = group_of_signature.emplace(std::move(text), groups.size());
    if (is_new) groups.push_back({.layers = {}, .stages = stages});
    groups[found->second].layers.push_back(layer);
  }
  return groups;
}

std::vector<NameGroup> alike_names(const std::vector<std::string>& names,
                                   const std::vector<std::string>& kinds) {
  std::vector<std::vector<std::size_t>> groups;
  std::map<std::pair<std::string, std::string>, std::size_t> group_of_pattern;
  std::vector<Pattern> patterns;
  for (std::size_t i = 0; i < names.size(); ++i) {
    patterns.push_back(pattern_of(names[i]));
    const auto [found, is_new] =
        group_of_pattern.emplace(std::pair(patterns[i].text, kinds[i]), groups.size());
    if (is_new) groups.emplace_back();
    groups[found->second].push_back(i);
  }
  std::vector<NameGroup> result;
  for (const auto& members : groups) {
    std::vector<Pattern> alike;
    for (const std::size_t i : members)
      alike.push_back(patterns[i]);
    if (const auto name = common_name(alike)) {
      result.push_back({.name = *name, .members = members});
      continue;
    }
    for (const std::size_t i : members)
      result.push_back({.name = names[i], .members = {i}});
  }
  return result;
}

std::string name_in_layer(std::string_view name, int layer) {
  const std::string prefix = fmt::format("layers.{}.", layer);
  if (name.starts_with(prefix)) return std::string(name.substr(prefix.size()));
  return replace_once(std::string(name), "." + prefix, ".layers.N.");
}

std::string ranges(const std::vector<int>& ascending) {
  std::string text;
  for (std::size_t i = 0; i < ascending.size();) {
    std::size_t last = i;
    while (last + 1 < ascending.size() && ascending[last + 1] == ascending[last] + 1)
      ++last;
    text += (text.empty() ? "" : ", ") + std::to_string(ascending[i]);
    if (last > i) text += "-" + std::to_string(ascending[last]);
    i = last + 1;
  }
  return text;
}

}  // namespace plumb
