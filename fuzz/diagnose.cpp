// A trace from any bytes, manifest and tensors, as what an engine computed of a small fixed model, diagnosed as `plumb diagnose` does.
#include "parity/diagnose.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "parity/diagnose_report.h"
#include "parts.h"
#include "small_model.h"

namespace {

constexpr std::string_view kConfig = R"({"model_type": "qwen3", "vocab_size": 13, "hidden_size": 6, "intermediate_size": 5, "num_hidden_layers": 1,
  "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 4, "rope_theta": 100, "rms_norm_eps": 1e-6})";

const plumb::Model& model() {
  static const auto made = plumb::fuzz::small_model(kConfig);
  if (!made) std::abort();
  return *made;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto parts = plumb::fuzz::parts_of(data, size, 2);
  auto manifest = plumb::parse_trace_manifest(std::string(parts[0]), "input");
  const auto source = plumb::fuzz::MemorySource::read(parts[1]);
  if (!manifest.ok() || source == nullptr) return 0;
  const plumb::Trace trace = plumb::Trace::of(std::move(manifest).value(), source);
  const auto diagnosis = plumb::diagnose(model(), trace, {.threads = 1, .reference = nullptr, .stages = {}, .progress = nullptr});
  if (!diagnosis.ok()) return 0;
  (void)plumb::diagnose_text(diagnosis.value());
  (void)plumb::diagnose_json(diagnosis.value());
  (void)plumb::diagnose_html(diagnosis.value(), {.suspect = "a", .model = "b", .reference = ""});
  return 0;
}
