// Reading a trace: what one engine computed in one run (docs/trace-format.md).
//   PLUMB_TRY(const Trace trace, Trace::open("golden/bf16.trace"));
//   if (const StoredTensor* q = trace.find(0, "layers.0.attn.q_rope")) { … Trace::read(*q) … }
// Immutable once opened.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "graph/tensor.h"
#include "io/tensor_source.h"
#include "parity/captured.h"

namespace plumb {

// The keys of manifest.json that this program reads; absent ones are empty.
struct TraceManifest {
  std::string engine_name;
  std::string engine_version;
  std::string precision;  // of our reference executor's settings
  std::string path;       // of our cpu executor's: instruction set and activations
  std::string model_type;
  std::string model_config;  // the checkpoint's config.json as text, "" when not there
  std::string dtype;
  std::optional<std::string> prompt;
  std::optional<std::string> rendered;
  std::vector<std::int32_t> token_ids;
  std::vector<std::int32_t> generated;
  std::optional<std::vector<std::int32_t>> stop_ids;
  std::string sampler;   // as JSON text, "" when null or absent
  std::string settings;  // the engine's, the same
  std::vector<TraceStep> steps;
  std::vector<std::string> stages;

  // What the engine is called, and for our cpu executor the path: what its arithmetic is guessed by.
  std::string engine_words() const { return path.empty() ? engine_name : engine_name + ", " + path; }
};

// `text` is that of manifest.json, `where` its name. An error where format, token_ids or steps is missing, or a key's type or range is wrong.
Result<TraceManifest> parse_trace_manifest(const std::string& text, const std::string& where);

class Trace final : public Captured {
 public:
  static Result<Trace> open(const std::filesystem::path& folder);
  // Of parts: what a manifest says of tensors that lie elsewhere.
  static Trace of(TraceManifest manifest, std::shared_ptr<const TensorSource> source) {
    return {std::move(manifest), std::move(source)};
  }

  const TraceManifest& manifest() const { return manifest_; }
  std::span<const StoredTensor> tensors() const { return source_->tensors(); }
  const std::shared_ptr<const TensorSource>& source() const { return source_; }

  // The tensor "STEP/STAGE" as stored; null when it was not captured.
  const StoredTensor* find(std::size_t step, std::string_view stage) const;

  // Its values, whatever the number type.
  static Tensor read(const StoredTensor& stored);

  const std::vector<TraceStep>& steps() const override { return manifest_.steps; }
  std::vector<std::int32_t> fed_ids(std::size_t step) const override;
  std::shared_ptr<const CapturedValue> value(std::size_t step,
                                             std::string_view stage) const override;

 private:
  Trace(TraceManifest manifest, std::shared_ptr<const TensorSource> source);

  TraceManifest manifest_;
  std::shared_ptr<const TensorSource> source_;
  std::vector<std::int32_t> ids_;         // of the prompt and of what was generated
  std::vector<std::int64_t> fed_before_;  // by step: how many of them earlier steps fed
};

}  // namespace plumb
