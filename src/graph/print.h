// A graph in words: the conventions of each stage by name, and which layers are alike.
//   for (const Field& field : fields(stage.operation)) print("{} {}", field.name, to_string(field.value));  // "eps 1e-06"
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "graph/graph.h"

namespace plumb {

// monostate: an optional field that is not set. Enums are their names: "half_split".
using FieldValue = std::variant<std::monostate, bool, std::int64_t, double, std::string,
                                std::vector<std::int64_t>, std::vector<double>>;

struct Field {
  std::string name;  // "eps", "frequencies.theta"
  FieldValue value;
};

std::vector<Field> fields(const Operation& operation);
std::string to_string(const FieldValue& value);  // "none", "yes", "1e-06", "half_split", "[2, 96]"
std::string operation_name(const Operation& operation);  // "gated_norm"

std::vector<Field> fields(const State& state);
std::string state_name(const State& state);  // "key_value"

// How many numbers a state holds.
struct StateSize {
  std::int64_t per_token;
  std::int64_t fixed;
};

StateSize size(const State& state);

// Layers whose stages differ in nothing but the layer's number.
struct LayerGroup {
  std::vector<int> layers;  // ascending
  std::vector<int> stages;  // of the first of them, in execution order
};

std::vector<LayerGroup> alike_layers(const Graph& graph);  // in order of their first layers

// `name` without its layer: "attn.norm" of "layers.3.attn.norm"; a parameter's number is replaced by "N".
std::string name_in_layer(std::string_view name, int layer);

// Names that differ in nothing but their numbers and go with equal `kinds`, such as shapes: as one entry where they are all
// combinations of those numbers. "model.layers.{0-3}.mlp.experts.{0-7}.up_proj.weight" has 32 members.
struct NameGroup {
  std::string name;
  std::vector<std::size_t> members;  // indices into `names`
};

std::vector<NameGroup> alike_names(const std::vector<std::string>& names,
                                   const std::vector<std::string>& kinds);

// "0-3, 5".
std::string ranges(const std::vector<int>& ascending);

}  // namespace plumb
