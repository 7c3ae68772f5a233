// Stages and conventions as JSON.
#include "support/graph_json.h"

namespace plumb {

Json field_json(const FieldValue& value) {
  struct Convert {
    Json operator()(std::monostate) const { return nullptr; }
    Json operator()(bool flag) const { return flag; }
    Json operator()(std::int64_t number) const { return number; }
    Json operator()(double number) const { return number; }
    Json operator()(const std::string& name) const { return name; }
    Json operator()(const std::vector<std::int64_t>& numbers) const { return numbers; }
    Json operator()(const std::vector<double>& numbers) const { return numbers; }
  };
  return std::visit(Convert(), value);
}

Json state_json(const State& state) {
  Json result = {{"kind", state_name(state)}};
  for (const Field& field : fields(state))
    result[field.name] = field_json(field.value);
  return result;
}

Json stage_json(const Graph& graph, const Stage& stage) {
  Json inputs = Json::array();
  for (const Value input : stage.inputs)
    inputs.push_back(graph.output(input).name);
  Json params = Json::array();
  for (const int index : stage.params)
    params.push_back(graph.params[static_cast<std::size_t>(index)].name);
  Json outputs = Json::array();
  for (const Output& output : stage.outputs)
    outputs.push_back(
        {{"name", output.name}, {"shape", output.shape}, {"per_token", output.per_token}});
  Json states = Json::array();
  for (const int index : stage.states)
    states.push_back(state_json(graph.states[static_cast<std::size_t>(index)]));
  Json conventions = Json::object();
  for (const Field& field : fields(stage.operation))
    conventions[field.name] = field_json(field.value);
  return {{"name", stage.name},
          {"layer", stage.layer < 0 ? Json() : Json(stage.layer)},
          {"operation", operation_name(stage.operation)},
          {"inputs", std::move(inputs)},
          {"params", std::move(params)},
          {"states", std::move(states)},
          {"outputs", std::move(outputs)},
          {"conventions", std::move(conventions)}};
}

}  // namespace plumb
