// plumb show: how a model is built.
#include <fmt/format.h>

#include <limits>

#include "graph/print.h"
#include "support/command.h"
#include "support/graph_json.h"
#include "support/graph_text.h"
#include "support/json.h"
#include "support/options.h"
#include "support/terminal.h"

namespace plumb {
namespace {

constexpr std::string_view kDetails = R"(Examples:
  plumb show path/to/model
  plumb show path/to/model --all | less
  plumb show path/to/model --json | jq '.stages[] | select(.operation == "attend")'
  plumb show path/to/model --context 32768

Prints the configuration, every stage with the shape of what it yields for one token, what it reads, its parameters and every
convention by name, every tensor with its stored format and size, the tensors that are skipped (vision towers, heads for
drafting), and the memory for a context. Layers that differ in nothing but their number are shown once, and so are tensors,
unless --all.
)";

struct Options {
  std::optional<std::string> model;
  EngineOptions engine;
  ExecutorChoice choice = {.usual = "cpu"};
  std::int64_t context = 0;
  bool all = false;
  bool json = false;
};

void declare_show(Arguments& arguments, Options& options) {
  arguments.positional("MODEL", options.model,
                       "A folder or file; the built-in model when left out");
  arguments.integer("--context", options.context, 0, std::numeric_limits<std::int32_t>::max(),
                    "Tokens to count the memory for; 0: as many as the configuration allows");
  arguments.flag("--all", options.all, "Every layer, alike or not");
  arguments.flag("--json", options.json, "Print JSON: every layer, every field");
  declare(arguments, options.engine);
  declare(arguments, options.choice);
}

struct Memory {
  std::uint64_t weight_bytes;  // as stored
  std::int64_t parameters;
  std::uint64_t state_bytes_per_token;
  std::uint64_t fixed_state_bytes;  // however long the sequence is
  std::int64_t context;
  std::uint64_t state_numbers_per_token = 0;

  std::uint64_t state_bytes() const {
    return state_bytes_per_token * static_cast<std::uint64_t>(context) + fixed_state_bytes;
  }
};

Memory count_memory(const Session& session, std::int64_t context) {
  const Model& model = *session.model;
  Memory memory = {.weight_bytes = 0,
                   .parameters = 0,
                   .state_bytes_per_token = 0,
                   .fixed_state_bytes = 0,
                   .context = context > 0 ? context : model.config->max_position_embeddings};
  for (const WeightPtr& weight : model.network.weights) {
    memory.weight_bytes += weight->stored_bytes();
    memory.parameters += weight->rows() * weight->row_length();
  }
  for (std::size_t i = 0; i < model.network.graph.states.size(); ++i) {
    const StateBytes bytes = session.executor->bytes_of(i);
    const StateSize numbers = size(model.network.graph.states[i]);
    memory.state_bytes_per_token += bytes.per_token;
    memory.fixed_state_bytes += bytes.fixed;
    memory.state_numbers_per_token += static_cast<std::uint64_t>(numbers.per_token);
  }
  return memory;
}

Json configuration(const Model& model) {
  Json parsed = Json::parse(model.config->json(), nullptr, false);
  return parsed.is_discarded() ? Json() : parsed;
}

// In the configuration of a multimodal model, what describes the model that runs.
bool is_text_config(std::string_view key, const Json& value) {
  return key == "text_config" && value.is_object();
}

std::string configuration_text(const Model& model) {
  const Json config = configuration(model);
  std::string text = "Configuration\n";
  for (const auto& [key, value] : config.items()) {
    if (!is_text_config(key, value)) {
      text += fmt::format("  {:<28} {}\n", key, json_text(value));
      continue;
    }
    text += fmt::format("  {}\n", key);
    for (const auto& [inner, what] : value.items())
      text += fmt::format("    {:<26} {}\n", inner, json_text(what));
  }
  std::string stop;
  for (const std::int32_t id : model.stop_ids) {
    const auto piece = model.tokenizer == nullptr ? std::nullopt : model.tokenizer->piece(id);
    stop += fmt::format("{}{}{}", stop.empty() ? "" : ", ", id,
                        piece ? " " + json_text(Json(*piece)) : "");
  }
  return text + fmt::format("  {:<28} {}\n", "(stop ids, united)", stop.empty() ? "none" : stop);
}

std::string memory_text(const Memory& memory) {
  std::string each;
  if (memory.state_numbers_per_token > 0) {
    each = fmt::format(" ({:.3g} bytes a number)",
                       static_cast<double>(memory.state_bytes_per_token) / static_cast<double>(memory.state_numbers_per_token));
  }
  return fmt::format(
      "Memory\n"
      "  {:<28} {}, {} parameters\n"
      "  {:<28} {} for each token{}, {} once\n"
      "  {:<28} {} with a context of {} tokens\n",
      "weights, as stored", byte_text(memory.weight_bytes), memory.parameters, "state",
      byte_text(memory.state_bytes_per_token), each, byte_text(memory.fixed_state_bytes), "both",
      byte_text(memory.weight_bytes + memory.state_bytes()), memory.context);
}

Json model_json(const Session& session, const Memory& memory) {
  const Model& model = *session.model;
  const BoundGraph& network = model.network;
  Json stages = Json::array();
  for (const Stage& stage : network.graph.stages)
    stages.push_back(stage_json(network.graph, stage));
  Json tensors = Json::array();
  for (std::size_t i = 0; i < network.graph.params.size(); ++i) {
    const Weight& weight = *network.weights[i];
    tensors.push_back({{"name", network.graph.params[i].name},
                       {"shape", weight.shape()},
                       {"format", weight.format()},
                       {"bytes", weight.stored_bytes()},
                       {"runs_as", session.executor->path_of(i)}});
  }
  Json skipped = Json::array();
  for (const WeightMap::Skipped& tensor : model.skipped)
    skipped.push_back({{"name", tensor.name}, {"shape", tensor.shape}});
  return {{"path", model.path.string()},
          {"model_type", model.config->model_type()},
          {"executor", session.executor->describe()},
          {"config", configuration(model)},
          {"stop_ids", model.stop_ids},
          {"stages", std::move(stages)},
          {"tensors", std::move(tensors)},
          {"skipped", std::move(skipped)},
          {"memory",
           {{"parameters", memory.parameters},
            {"weight_bytes", memory.weight_bytes},
            {"state_bytes_per_token", memory.state_bytes_per_token},
            {"fixed_state_bytes", memory.fixed_state_bytes},
            {"context", memory.context},
            {"state_bytes", memory.state_bytes()}}}};
}

Result<int> execute(const Options& options) {
  PLUMB_TRY(const std::filesystem::path path,
            options.model ? Result<std::filesystem::path>(*options.model) : builtin_model());
  PLUMB_TRY(const Session session, open_session(path, options.engine, options.choice));
  const Model& model = *session.model;
  const Memory memory = count_memory(session, options.context);
  if (options.json) {
    PLUMB_TRY_STATUS(print_json(model_json(session, memory), 1));
    return kDone;
  }
  PLUMB_TRY_STATUS(print(fmt::format("{}: {}, {} stages; {}\n\n", model.path.string(),
                                     model.config->model_type(), model.network.graph.stages.size(),
                                     session.executor->describe())));
  PLUMB_TRY_STATUS(print(configuration_text(model) + "\n"));
  PLUMB_TRY_STATUS(print(stages_text(model.network.graph, options.all) + "\n"));
  PLUMB_TRY_STATUS(print(tensors_text(model.network, *session.executor, options.all) + "\n"));
  PLUMB_TRY_STATUS(print(skipped_text(model.skipped, options.all)));
  PLUMB_TRY_STATUS(print(memory_text(memory)));
  return kDone;
}

}  // namespace

Command show_command() {
  const auto options = std::make_shared<Options>();
  return {.name = "show",
          .place = 5,
          .summary = "Show how a model is built: stages, conventions, tensors, memory",
          .details = kDetails,
          .declare = [options](Arguments& arguments) { declare_show(arguments, *options); },
          .execute = [options] { return execute(*options); }};
}

}  // namespace plumb
