// A trace's folder: manifest.json by nlohmann-json, the tensors by the safetensors writer, both under a temporary name.
#include "parity/trace_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <system_error>

#include "core/check.h"
#include "core/float_bits.h"
#include "io/safetensors_writer.h"
#include "parity/output_folder.h"

namespace plumb {

namespace fs = std::filesystem;

namespace {

// A chunk's attention sees no later keys; in the whole step's matrix they are there, and masked.
double masked_value(std::string_view name) {
  return name.ends_with(".scores") ? -std::numeric_limits<double>::infinity() : 0.0;
}

bool is_ids(std::string_view name) {
  return name.ends_with(".ids") || name.ends_with(".selected");
}

void widen_rows(Tensor& matrix, std::int64_t keys, double filler) {
  Shape shape = matrix.shape;
  const auto before = static_cast<std::size_t>(shape.back());
  const auto after = static_cast<std::size_t>(keys);
  shape.back() = keys;
  Tensor wide(shape);
  std::fill(wide.data.begin(), wide.data.end(), filler);
  for (std::size_t from = 0, to = 0; from < matrix.data.size(); from += before, to += after) {
    std::copy_n(matrix.data.begin() + static_cast<std::ptrdiff_t>(from), before,
                wide.data.begin() + static_cast<std::ptrdiff_t>(to));
  }
  matrix = std::move(wide);
}

void append_rows(Tensor& whole, Tensor more, double filler) {
  if (whole.shape.back() < more.shape.back()) widen_rows(whole, more.shape.back(), filler);
  if (more.shape.back() < whole.shape.back()) widen_rows(more, whole.shape.back(), filler);
  whole.shape[0] += more.shape[0];
  whole.data.insert(whole.data.end(), more.data.begin(), more.data.end());
}

bool holds_only(ActivationType type, const Tensor& tensor) {
  return std::all_of(tensor.data.begin(), tensor.data.end(), [&](double value) {
    const auto single = static_cast<float>(value);
    return (type == ActivationType::kBfloat16 ? round_to_bfloat16(single) : half_to_float(float_to_half(single))) == value;
  });
}

std::string manifest_text(const TraceDescription& about, const TraceRecorder& recorder) {
  using nlohmann::json;
  json steps = json::array();
  for (const TraceStep& step : recorder.steps())
    steps.push_back({{"first", step.first}, {"count", step.count}});
  json config = json::parse(about.model_config, nullptr, false);
  if (!config.is_object()) config = json::object();
  const json manifest = {
      {"format", "plumb-trace/1"},
      {"engine",
       {{"name", "plumb"}, {"version", about.engine_version}, {"settings", about.settings}}},
      {"model",
       {{"name", about.model_name},
        {"model_type", about.model_type},
        {"config", std::move(config)}}},
      {"dtype", recorder.activation_dtype()},
      {"prompt", about.prompt ? json(*about.prompt) : json()},
      {"rendered", nullptr},
      {"token_ids", about.token_ids},
      {"generated", about.generated},
      {"sampler", {{"temperature", 0}}},
      {"stop_ids", about.stop_ids},
      {"steps", std::move(steps)},
      {"stages", recorder.stages()},
  };
  return manifest.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

Status write_tensors(const fs::path& file, const TraceRecorder& recorder) {
  std::vector<TensorToWrite> headers;
  for (const TraceRecorder::Entry& entry : recorder.entries()) {
    headers.push_back({.name = fmt::format("{}/{}", entry.step, entry.output->name),
                       .dtype = recorder.dtype(entry.output->name),
                       .shape = entry.value.shape});
  }
  PLUMB_TRY(auto writer, SafetensorsWriter::create(file, headers, {}));
  for (std::size_t i = 0; i < headers.size(); ++i)
    PLUMB_TRY_STATUS(writer.write(i, recorder.entries()[i].value.data));
  return writer.finish();
}

bool is_trace_folder(const fs::path& folder) {
  std::error_code error;
  if (!fs::is_directory(fs::symlink_status(folder, error))) return false;
  bool has_manifest = false;
  for (auto entry = fs::directory_iterator(folder, error);
       !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name == "manifest.json") {
      has_manifest = true;
    } else if (!name.starts_with("tensors")) {
      return false;
    }
  }
  return !error && has_manifest;
}

}  // namespace

TraceRecorder::TraceRecorder(const Graph& graph, Precision precision, StageFilter filter)
    : precision_(precision), filter_(std::move(filter)) {
  for (const Stage& stage : graph.stages) {
    for (const Output& output : stage.outputs) {
      outputs_.emplace(output.name, &output);
      order_.push_back(&output);
    }
  }
}

void TraceRecorder::begin_step(std::int64_t first, std::int64_t count) {
  steps_.push_back({.first = first, .count = count});
  current_.clear();
}

bool TraceRecorder::wants(std::string_view output_name) const {
  return filter_.holds(output_name);
}

const Output& TraceRecorder::find_output(std::string_view name) const {
  const auto found = outputs_.find(name);
  PLUMB_CHECK(found != outputs_.end());
  return *found->second;
}

void TraceRecorder::observe(std::string_view output_name, const Tensor& value) {
  const Output& output = find_output(output_name);
  if (Numerics(precision_).narrow() && !wider_.contains(output.name) &&
      !holds_only(activation_type(precision_), value)) {
    wider_.insert(output.name);
  }
  const auto [place, first_chunk] = current_.emplace(output.name, entries_.size());
  if (first_chunk) {
    entries_.push_back({.step = steps_.size() - 1, .output = &output, .value = value});
  } else if (output.per_token) {
    append_rows(entries_[place->second].value, value, masked_value(output.name));
  } else {
    entries_[place->second].value = value;
  }
}

std::vector<std::string> TraceRecorder::stages() const {
  std::set<std::string_view> captured;
  for (const Entry& entry : entries_)
    captured.insert(entry.output->name);
  std::vector<std::string> names;
  for (const Output* output : order_) {
    if (captured.contains(output->name)) names.push_back(output->name);
  }
  return names;
}

DType TraceRecorder::dtype(std::string_view output_name) const {
  if (is_ids(output_name)) return DType::kI32;
  constexpr DType kHeld[] = {DType::kF64, DType::kF32, DType::kBF16, DType::kF16};
  const DType held = kHeld[static_cast<std::size_t>(activation_type(precision_))];
  return Numerics(precision_).narrow() && wider_.contains(output_name) ? DType::kF32 : held;
}

std::string_view TraceRecorder::activation_dtype() const {
  constexpr std::string_view kNames[] = {"float64", "float32", "bfloat16", "float16"};
  return kNames[static_cast<std::size_t>(activation_type(precision_))];
}

Status check_trace_target(const fs::path& folder, const TraceWriteOptions& options) {
  const fs::path target = without_separator(folder);
  if (target.empty()) return file_error(folder, "is no name for a trace");
  std::error_code ignored;
  if (fs::symlink_status(target, ignored).type() == fs::file_type::not_found) return {};
  if (!options.replace) return file_error(target, "is there already");
  if (!is_trace_folder(target))
    return file_error(target, "is there already and is no trace, so it is not replaced");
  return {};
}

Status write_trace(const fs::path& folder, const TraceDescription& description,
                   const TraceRecorder& recorder, const TraceWriteOptions& options) {
  const fs::path target = without_separator(folder);
  PLUMB_TRY_STATUS(check_trace_target(target, options));
  const TemporaryFolder unfinished{beside(target, "unfinished")};
  std::error_code error;
  fs::create_directory(unfinished.path, error);
  if (error) return file_error(unfinished.path, "cannot be made: " + error.message());
  PLUMB_TRY_STATUS(write_tensors(unfinished.path / "tensors.safetensors", recorder));
  PLUMB_TRY_STATUS(
      write_text(unfinished.path / "manifest.json", manifest_text(description, recorder)));
  const TemporaryFolder replaced{beside(target, "replaced")};
  const bool there = fs::exists(target, error);
  if (there) fs::rename(target, replaced.path, error);
  if (!error) fs::rename(unfinished.path, target, error);
  if (!error) return {};
  std::error_code ignored;
  if (there && !fs::exists(target, ignored)) fs::rename(replaced.path, target, ignored);
  return file_error(target, "cannot be named so: " + error.message());
}

}  // namespace plumb
