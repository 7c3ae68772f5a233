// Writing a trace (docs/trace-format.md) of what an executor computes.
//   PLUMB_TRY(const StageFilter filter, StageFilter::parse(graph, {"layers.*.attn.*"}, "0,3-5"));
//   TraceRecorder recorder(graph, Precision::kFp32, filter);
//   recorder.begin_step(0, 40);  … executor.forward(…, {.observer = &recorder}) …
//   PLUMB_TRY_STATUS(write_trace("run.trace", description, recorder, {.replace = false}));
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/result.h"
#include "graph/executor.h"
#include "parity/captured.h"
#include "reference/numerics.h"

namespace plumb {

// Which of a graph's stages a trace is to hold.
class StageFilter {
 public:
  // `patterns` are names in which * stands for anything; none: all stages. `layers` is a list such as "0,3-5" and leaves
  // stages outside the layers alone. An error names a pattern that no stage has, or a layer that is not there.
  static Result<StageFilter> parse(const Graph& graph, const std::vector<std::string>& patterns,
                                   const std::optional<std::string>& layers);

  bool holds(std::string_view output_name) const { return names_.contains(output_name); }

 private:
  std::set<std::string, std::less<>> names_;
};

// Keeps the values of the chosen stages, in memory, as they are computed.
class TraceRecorder final : public StageObserver {
 public:
  // `graph` must outlive the recorder.
  TraceRecorder(const Graph& graph, Precision precision, StageFilter filter);

  // What is observed from here on belongs to the forward pass that starts at position `first`.
  void begin_step(std::int64_t first, std::int64_t count);

  bool wants(std::string_view output_name) const override;
  void observe(std::string_view output_name, const Tensor& value) override;

  struct Entry {
    std::size_t step;
    const Output* output;
    Tensor value;
  };

  const std::vector<TraceStep>& steps() const { return steps_; }
  const std::vector<Entry>& entries() const { return entries_; }
  std::vector<std::string> stages() const;  // those captured, in execution order

  // The narrowest type that holds all that was captured of a stage: a profile keeps some values of a bfloat16 run in float32.
  DType dtype(std::string_view output_name) const;

  std::string_view activation_dtype() const;  // as the manifest's dtype

 private:
  const Output& find_output(std::string_view name) const;

  Precision precision_;
  StageFilter filter_;
  std::map<std::string, const Output*, std::less<>> outputs_;
  std::vector<const Output*> order_;
  std::vector<TraceStep> steps_;
  std::vector<Entry> entries_;
  std::map<std::string, std::size_t, std::less<>> current_;  // this step's entries, by name
  std::set<std::string, std::less<>> wider_;  // stages that a bfloat16 run holds in float32
};

// What the manifest says beside what the recorder knows.
struct TraceDescription {
  std::string engine_version;
  std::map<std::string, std::string> settings;
  std::string model_name;
  std::string model_type;
  std::string model_config;  // config.json, as JSON text
  std::optional<std::string> prompt;
  std::vector<std::int32_t> token_ids;
  std::vector<std::int32_t> generated;
  std::vector<std::int32_t> stop_ids;
};

struct TraceWriteOptions {
  bool replace = false;  // an earlier trace of that name; never anything else
};

// An error names a folder that is there and not to be replaced, or that is no trace.
Status check_trace_target(const std::filesystem::path& folder, const TraceWriteOptions& options);

// The folder appears under its name when it is complete.
Status write_trace(const std::filesystem::path& folder, const TraceDescription& description,
                   const TraceRecorder& recorder, const TraceWriteOptions& options);

}  // namespace plumb
