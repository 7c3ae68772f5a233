// What a faulty engine would have captured, for the worked examples: the reference executor with causes of the catalogue planted.
//   plant_tool [--stages PATTERN,…] MODEL OUT.trace PRECISION STEPS IDS [OUTPUT FIELD FOUND]…
// --stages keeps these stages alone. Logits are those of every token, as an observer sees them.
// IDS "1,2,3" are followed by STEPS greedy tokens; of "1,2,3/4,5" those behind the stroke are what the engine chose.
// OUTPUT is a stage's output name, * standing for its layer; FIELD and FOUND are what `plumb diagnose` calls the cause
// ("rope.pairing",
// "neighbouring"). Without causes it is a right engine. With MODEL alone: the causes that there are.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <sstream>

#include "engine/model.h"
#include "engine/sampler.h"
#include "graph/print.h"
#include "parity/hypothesis.h"
#include "parity/trace_writer.h"
#include "reference/executor.h"

namespace plumb {
namespace {

std::string general(const std::string& name, int layer) {
  return layer < 0 ? name : "layers.*." + name_in_layer(name, layer);
}

bool names(const Stage& stage, const std::string& wanted) {
  return std::any_of(stage.outputs.begin(), stage.outputs.end(), [&](const Output& output) {
    return output.name == wanted || general(output.name, stage.layer) == wanted;
  });
}

void list_causes(const Model& model) {
  std::string seen;
  for (int i = 0; i < static_cast<int>(model.network.graph.stages.size()); ++i) {
    const Stage& stage = model.network.graph.stages[static_cast<std::size_t>(i)];
    for (const Hypothesis& hypothesis : hypotheses_about(model.network, *model.config, i)) {
      const std::string line =
          fmt::format("{} {} {} (row {}): {}\n", general(stage.outputs[0].name, stage.layer),
                      hypothesis.field, hypothesis.range ? "NUMBER" : to_string(hypothesis.found),
                      hypothesis.row, hypothesis.cause);
      if (seen.find(line) != std::string::npos) continue;
      seen += line;
      fmt::print("{}", line);
    }
  }
}

// How many stages took the cause.
int plant(const Model& model, const std::string& output, const std::string& field,
          const std::string& found, Patch& patch) {
  int planted = 0;
  for (int i = 0; i < static_cast<int>(model.network.graph.stages.size()); ++i) {
    if (!names(model.network.graph.stages[static_cast<std::size_t>(i)], output)) continue;
    for (const Hypothesis& hypothesis : hypotheses_about(model.network, *model.config, i)) {
      char* end = nullptr;
      const double value = hypothesis.range ? std::strtod(found.c_str(), &end) : 0;
      const bool same = hypothesis.range ? end != found.c_str() && *end == 0 : to_string(hypothesis.found) == found;
      if (hypothesis.field != field || !same) continue;
      if (!hypothesis.apply(model.network, i, value, patch)) continue;
      ++planted;
      break;
    }
  }
  return planted;
}

// Takes the patterns of --stages from the front; none: all stages are kept.
Result<std::vector<std::string>> kept_of(std::vector<std::string>& arguments) {
  std::vector<std::string> patterns;
  while (!arguments.empty() && arguments[0].starts_with("--")) {
    if (arguments[0] != "--stages" || arguments.size() < 2)
      return Error{ErrorCode::kInvalidArgument, fmt::format("{}: the one option is --stages PATTERN,…", arguments[0])};
    std::istringstream list(arguments[1]);
    for (std::string pattern; std::getline(list, pattern, ',');)
      patterns.push_back(pattern);
    arguments.erase(arguments.begin(), arguments.begin() + 2);
  }
  return patterns;
}

Result<int> run(std::vector<std::string> arguments) {
  PLUMB_TRY(const std::vector<std::string> kept, kept_of(arguments));
  if (arguments.empty()) return Error{ErrorCode::kInvalidArgument, "see the head of plant_tool.cpp"};
  PLUMB_TRY(const Model model, Model::load(arguments[0], {}));
  if (arguments.size() == 1) {
    list_causes(model);
    return 0;
  }
  if (arguments.size() < 5 || arguments.size() % 3 != 2)
    return Error{ErrorCode::kInvalidArgument, "see the head of plant_tool.cpp"};
  PLUMB_TRY(const Precision precision, precision_from_name(arguments[2]));
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> chosen;
  auto* list = &ids;
  for (const char* at = arguments[4].c_str(); *at != 0;) {
    char* end = nullptr;
    list->push_back(static_cast<std::int32_t>(std::strtol(at, &end, 10)));
    if (end == at) return Error{ErrorCode::kInvalidArgument, "IDS are numbers with commas between"};
    if (*end == '/') list = &chosen;
    at = *end != 0 ? end + 1 : end;
  }
  Patch patch;
  for (std::size_t i = 5; i < arguments.size(); i += 3) {
    if (plant(model, arguments[i], arguments[i + 1], arguments[i + 2], patch) == 0)
      return Error{ErrorCode::kInvalidArgument, fmt::format("{} {} {}: no such cause", arguments[i],
                                                            arguments[i + 1], arguments[i + 2])};
  }
  if (!patch.computations.empty())
    return Error{ErrorCode::kInvalidArgument,
                 "a cause that no field of the graph holds cannot be run here"};
  BoundGraph network = model.network;
  for (const auto& [index, stage] : patch.stages)
    network.graph.stages[static_cast<std::size_t>(index)] = stage;
  for (const auto& [index, weight] : patch.weights)
    network.weights[static_cast<std::size_t>(index)] = weight;
  const auto executor = make_reference_executor(network, precision, 0);
  const auto sequence = executor->start();
  PLUMB_TRY(StageFilter filter, StageFilter::parse(network.graph, kept, std::nullopt));
  TraceRecorder recorder(network.graph, precision, std::move(filter));
  std::vector<std::int32_t> generated;
  std::vector<std::int32_t> feed = ids;
  const std::size_t passes = chosen.empty()
                                 ? static_cast<std::size_t>(std::atoi(arguments[3].c_str())) + 1
                                 : chosen.size();
  while (generated.size() < passes) {
    recorder.begin_step(sequence->length(), std::ssize(feed));
    PLUMB_TRY(const Tensor logits,
              executor->forward(
                  *sequence, feed,
                  {.rows = LogitRows::kLast, .chunk = 0, .observer = &recorder, .progress = {}}));
    generated.push_back(chosen.empty() ? argmax(logits.row(logits.tokens() - 1))
                                       : chosen[generated.size()]);
    feed = {generated.back()};
  }
  TraceDescription about;
  about.engine_version = "with planted faults";
  about.model_type = model.config->text_model_type();
  about.model_config = model.config->json();
  about.token_ids = ids;
  about.generated = generated;
  about.stop_ids = model.stop_ids;
  PLUMB_TRY_STATUS(write_trace(arguments[1], about, recorder, {.replace = true}));
  return 0;
}

}  // namespace
}  // namespace plumb

int main(int argc, char** argv) {
  const auto result = plumb::run({argv + 1, argv + argc});
  if (result.ok()) return result.value();
  fmt::print(stderr, "plant_tool: {}\n", result.error().message);
  return 1;
}
