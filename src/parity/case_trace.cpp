#include "parity/case_trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "io/safetensors_writer.h"
#include "parity/choices.h"
#include "parity/output_folder.h"

namespace plumb {
namespace {

// The first `tokens` rows; of a row over keys, which are as many as the pass has tokens, the first keys.
Tensor first_rows(const Tensor& whole, std::int64_t tokens, std::int64_t of_tokens, bool keyed) {
  Shape shape = whole.shape;
  shape[0] = tokens;
  const bool cut_keys = keyed && shape.back() == of_tokens;
  if (cut_keys) shape.back() = tokens;
  Tensor part(shape);
  const std::int64_t before = whole.shape.back();
  const std::int64_t after = shape.back();
  const std::int64_t rows = after > 0 ? std::ssize(part.data) / after : 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    std::copy_n(whole.data.begin() + row * before, after, part.data.begin() + row * after);
  }
  return part;
}

Tensor last_row(const Tensor& whole) {
  Shape shape = whole.shape;
  shape[0] = 1;
  Tensor part(shape);
  std::copy(whole.data.end() - std::ssize(part.data), whole.data.end(), part.data.begin());
  return part;
}

bool is_over_positions(std::string_view stage) {
  return stage.ends_with(".scores") || stage.ends_with(".probs");
}

std::string manifest_of(const Trace& trace, const CaseContent& content) {
  using nlohmann::json;
  const TraceManifest& from = trace.manifest();
  json steps = json::array();
  std::int64_t fed = 0;
  std::set<std::string> stages;
  for (std::size_t s = 0; s < content.steps; ++s) {
    TraceStep step = trace.steps()[s];
    if (s == 0) step.count = content.tokens;
    steps.push_back({{"first", step.first}, {"count", step.count}});
    fed += step.count;
  }
  for (const auto& [step, stage] : content.values)
    stages.insert(stage);
  // Ids that a later pass chose belong to it; what was never fed is left out, except where the choice is the question.
  std::vector<std::int32_t> ids = from.token_ids;
  std::vector<std::int32_t> generated = from.generated;
  const std::int64_t prompt = std::min(fed, std::ssize(ids));
  if (!content.with_prompt && !content.last_rows) {
    ids.resize(static_cast<std::size_t>(prompt));
    generated.resize(static_cast<std::size_t>(std::clamp<std::int64_t>(fed - prompt, 0, std::ssize(generated))));
  }
  const auto parsed = [](const std::string& text) {
    json value = json::parse(text, nullptr, false);
    return value.is_discarded() ? json() : value;
  };
  const auto text = [&](const std::optional<std::string>& held) {
    return held && content.with_prompt ? json(*held) : json();
  };
  const json manifest = {{"format", "plumb-trace/1"},
                         {"engine", {{"name", from.engine_name}, {"version", from.engine_version}, {"settings", from.path.empty() ? json::object() : json{{"path", from.path}}}}},
                         {"model", {{"model_type", from.model_type}, {"config", parsed(from.model_config)}}},
                         {"dtype", from.dtype},
                         {"prompt", text(from.prompt)},
                         {"rendered", text(from.rendered)},
                         {"token_ids", ids},
                         {"generated", generated},
                         {"sampler", parsed(from.sampler)},
                         {"stop_ids", from.stop_ids ? json(*from.stop_ids) : json()},
                         {"steps", steps},
                         {"stages", stages}};
  return manifest.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace

CaseContent content_of(const BoundGraph& network, const Captured& captured, const Check& check) {
  CaseContent content;
  content.steps = check.step + 1;
  content.tokens = captured.steps()[0].count;
  const auto holds = [&](std::size_t step, const std::string& stage) { return captured.value(step, stage) != nullptr; };
  std::set<std::pair<std::size_t, int>> seen;
  const std::function<void(std::size_t, int)> gather = [&](std::size_t step, int index) {
    if (!seen.insert({step, index}).second) return;
    const Stage& stage = network.graph.stages[static_cast<std::size_t>(index)];
    for (const Value input : stage.inputs) {
      const std::string& name = network.graph.output(input).name;
      if (holds(step, name)) {
        content.values.insert({step, name});
      } else {
        gather(step, input.stage);
      }
    }
    // What was chosen decides what comes after.
    if (const int choice = choice_of(stage); choice >= 0) {
      const std::string& name = stage.outputs[static_cast<std::size_t>(choice)].name;
      if (holds(step, name)) content.values.insert({step, name});
    }
    if (stage.states.empty()) return;
    for (std::size_t earlier = 0; earlier < step; ++earlier)
      gather(earlier, index);
  };
  for (const int index : check.span)
    gather(check.step, index);
  content.values.insert({check.step, check.stage});
  if (check.reported == Reported::kLogprobs) content.values.insert({check.step, "logprobs.ids"});
  return content;
}

bool can_be_cut(const BoundGraph& network, const Captured& captured, const CaseContent& content) {
  if (content.steps != 1) return false;
  std::set<std::string> whole;  // without a token axis
  for (const Stage& stage : network.graph.stages) {
    for (const Output& output : stage.outputs) {
      if (!output.per_token) whole.insert(output.name);
    }
  }
  return std::all_of(content.values.begin(), content.values.end(), [&](const auto& entry) {
    const auto held = captured.value(entry.first, entry.second);
    return !whole.contains(entry.second) && held && held->values.tokens() == captured.steps()[0].count;
  });
}

Result<std::size_t> write_case(const std::filesystem::path& folder, const Trace& trace, const Captured& captured,
                               const CaseContent& content) {
  std::vector<TensorToWrite> headers;
  std::vector<Tensor> values;
  const std::int64_t all = captured.steps().empty() ? 0 : captured.steps()[0].count;
  for (const auto& [step, stage] : content.values) {
    const auto held = captured.value(step, stage);
    if (!held) continue;
    Tensor value = content.last_rows     ? last_row(held->values)
                   : content.tokens < all ? first_rows(held->values, content.tokens, all, is_over_positions(stage))
                                          : held->values;
    headers.push_back({.name = fmt::format("{}/{}", step, stage), .dtype = held->dtype, .shape = value.shape});
    values.push_back(std::move(value));
  }
  PLUMB_TRY(auto writer, SafetensorsWriter::create(folder / "tensors.safetensors", headers, {}));
  for (std::size_t i = 0; i < values.size(); ++i)
    PLUMB_TRY_STATUS(writer.write(i, values[i].data));
  PLUMB_TRY_STATUS(writer.finish());
  PLUMB_TRY_STATUS(write_text(folder / "manifest.json", manifest_of(trace, content)));
  return headers.size();
}

}  // namespace plumb
