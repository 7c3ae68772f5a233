// A model's graph and tensors as indented lines.
#include "support/graph_text.h"

#include <fmt/format.h>

#include "graph/print.h"

namespace plumb {
namespace {

constexpr std::size_t kColumns = 120;

// Joins `words` by commas into lines of at most kColumns, each indented.
std::string wrapped(const std::vector<std::string>& words, std::size_t indent) {
  std::string text;
  std::string line;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string word = words[i] + (i + 1 < words.size() ? "," : "");
    if (!line.empty() && indent + line.size() + 1 + word.size() > kColumns) {
      text += std::string(indent, ' ') + line + "\n";
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
  }
  return line.empty() ? text : text + std::string(indent, ' ') + line + "\n";
}

// What a scaling does not read of the frequencies would be four lines of zeros at each rotation.
bool is_read(std::string_view field, const Operation& operation) {
  const Rope* const rope = std::get_if<Rope>(&operation);
  if (rope == nullptr || rope->frequencies.scaling != RopeScaling::kNone) return true;
  return !field.starts_with("frequencies.") || field == "frequencies.scaling" ||
         field == "frequencies.theta";
}

// Prints the stages of one layer, or those outside of all.
class StagePrinter {
 public:
  // `first` is the layer's first stage when the text stands for several layers, whose inputs are therefore not named; else -1.
  StagePrinter(const Graph& graph, bool short_names, int first, std::size_t indent)
      : graph_(graph), short_names_(short_names), first_(first), indent_(indent) {}

  std::string text(const Stage& stage) const {
    std::vector<std::string> outputs;
    for (const Output& output : stage.outputs) {
      outputs.push_back(name(output.name, stage.layer) + " " + shape_text(output.shape) +
                        (output.per_token ? "" : " once"));
    }
    std::string result =
        std::string(indent_, ' ') +
        fmt::format("{:<10} {}\n", operation_name(stage.operation), fmt::join(outputs, ", "));
    std::vector<std::string> inputs;
    for (const Value input : stage.inputs)
      inputs.push_back(input_text(input, stage.layer));
    if (!inputs.empty()) inputs.front().insert(0, "reads ");
    result += wrapped(inputs, indent_ + 4);
    result += params_text(stage);
    for (const int index : stage.states) {
      result += wrapped(state_words(graph_.states[static_cast<std::size_t>(index)]), indent_ + 4);
    }
    std::vector<std::string> conventions;
    for (const Field& field : fields(stage.operation)) {
      if (is_read(field.name, stage.operation))
        conventions.push_back(field.name + " " + to_string(field.value));
    }
    return result + wrapped(conventions, indent_ + 4);
  }

 private:
  std::string name(const std::string& full, int layer) const {
    return short_names_ ? name_in_layer(full, layer) : full;
  }

  std::string input_text(Value input, int layer) const {
    return first_ >= 0 && input.stage == first_ - 1 ? "the layer's input"
                                                    : name(graph_.output(input).name, layer);
  }

  std::string params_text(const Stage& stage) const {
    std::vector<std::string> names;
    std::vector<std::string> shapes;
    for (const int index : stage.params) {
      const Param& param = graph_.params[static_cast<std::size_t>(index)];
      names.push_back(name(param.name, stage.layer));
      shapes.push_back(to_string(param.shape));
    }
    std::string result;
    for (const NameGroup& group : alike_names(names, shapes)) {
      result +=
          wrapped({"weight " + group.name + " " + shapes[group.members.front()]}, indent_ + 4);
    }
    return result;
  }

  static std::string shape_text(const Shape& shape) {
    std::vector<std::string> axes;
    for (const std::int64_t axis : shape)
      axes.push_back(axis == kAnyLength ? "keys" : std::to_string(axis));
    return fmt::format("[{}]", fmt::join(axes, ", "));
  }

  static std::vector<std::string> state_words(const State& state) {
    std::vector<std::string> words;
    for (const Field& field : fields(state))
      words.push_back(field.name + " " + to_string(field.value));
    if (!words.empty()) words.front().insert(0, "remembers " + state_name(state) + ": ");
    return words;
  }

  const Graph& graph_;
  bool short_names_;
  int first_;
  std::size_t indent_;
};

std::vector<NameGroup> each_alone(const std::vector<std::string>& names) {
  std::vector<NameGroup> groups;
  for (std::size_t i = 0; i < names.size(); ++i)
    groups.push_back({.name = names[i], .members = {i}});
  return groups;
}

}  // namespace

std::string stages_text(const Graph& graph, bool all) {
  std::string text = "Stages\n";
  const std::vector<LayerGroup> groups = all ? std::vector<LayerGroup>() : alike_layers(graph);
  for (std::size_t i = 0; i < graph.stages.size(); ++i) {
    const Stage& stage = graph.stages[i];
    if (stage.layer < 0 || all) text += StagePrinter(graph, false, -1, 2).text(stage);
    for (const LayerGroup& group : groups) {
      if (group.stages.front() != static_cast<int>(i)) continue;
      const bool one = group.layers.size() == 1;
      text += fmt::format("  {} {}{}\n", one ? "layer" : "layers", ranges(group.layers),
                          one ? "" : ", alike");
      const StagePrinter printer(graph, true, one ? -1 : static_cast<int>(i), 4);
      for (const int index : group.stages)
        text += printer.text(graph.stages[static_cast<std::size_t>(index)]);
    }
  }
  return text;
}

std::string skipped_text(const std::vector<WeightMap::Skipped>& tensors, bool all) {
  if (tensors.empty()) return "";
  std::vector<std::string> names;
  std::vector<std::string> shapes;
  for (const WeightMap::Skipped& tensor : tensors) {
    names.push_back(tensor.name);
    shapes.push_back(to_string(tensor.shape));
  }
  std::string text = "Skipped: in the files, and known to be of no use to these stages\n";
  for (const NameGroup& group : all ? each_alone(names) : alike_names(names, shapes)) {
    const std::size_t count = group.members.size();
    text += fmt::format("  {:<56} {}{}\n", group.name, shapes[group.members.front()],
                        count > 1 ? fmt::format(" each of {}", count) : "");
  }
  return text + "\n";
}

std::string tensors_text(const BoundGraph& network, const Executor& executor, bool all) {
  std::vector<std::string> names;
  std::vector<std::string> kinds;
  for (std::size_t i = 0; i < network.weights.size(); ++i) {
    const Weight& weight = *network.weights[i];
    names.push_back(network.graph.params[i].name);
    kinds.push_back(fmt::format("{:<18} {:<8} {:>10}", to_string(weight.shape()), weight.format(),
                                byte_text(weight.stored_bytes())));
    if (const std::string path = executor.path_of(i); !path.empty())
      kinds.back() += "  runs as " + path;
  }
  std::string text = "Tensors\n";
  for (const NameGroup& group : all ? each_alone(names) : alike_names(names, kinds)) {
    const std::size_t count = group.members.size();
    text += fmt::format("  {:<56} {}{}\n", group.name, kinds[group.members.front()],
                        count > 1 ? fmt::format(" each of {}", count) : "");
  }
  return text;
}

std::string byte_text(std::uint64_t count) {
  constexpr std::string_view kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  auto value = static_cast<double>(count);
  std::size_t unit = 0;
  for (; value >= 1000 && unit + 1 < std::size(kUnits); ++unit)
    value /= 1000;
  return unit == 0 ? fmt::format("{} B", count) : fmt::format("{:.2f} {}", value, kUnits[unit]);
}

}  // namespace plumb
