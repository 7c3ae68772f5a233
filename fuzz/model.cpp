// config.json from any bytes, as far as a network that runs: its graph recorded and printed, and four tokens through both executors, one after
// a cut of the sequence.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/executor.h"
#include "graph/print.h"
#include "reference/executor.h"
#include "small_model.h"

namespace {

void run(const plumb::Model& model, const plumb::ExecutorOptions& options) {
  const auto executor = plumb::make_executor(model, options);
  if (!executor.ok()) return;
  const auto vocabulary = static_cast<std::int32_t>(model.config->vocab_size);
  const std::vector<std::int32_t> ids = {0, vocabulary - 1, vocabulary / 2};
  const auto sequence = executor.value()->start();
  if (!executor.value()->forward(*sequence, ids, {.rows = plumb::LogitRows::kAll, .chunk = 0, .observer = nullptr, .progress = nullptr}).ok()) return;
  const auto other = executor.value()->fork(*sequence);
  (void)executor.value()->forward(*other, std::vector<std::int32_t>{0}, {}).ok();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto model = plumb::fuzz::small_model({reinterpret_cast<const char*>(data), size});
  if (!model) return 0;
  (void)plumb::alike_layers(model->network.graph);
  for (const plumb::Stage& stage : model->network.graph.stages) {
    for (const plumb::Field& field : plumb::fields(stage.operation))
      (void)plumb::to_string(field.value);
  }
  run(*model, {.precision = plumb::Precision::kHfBf16, .threads = 1});
  run(*model, {.precision = plumb::Precision::kFp64, .threads = 1, .kind = plumb::ExecutorKind::kCpu, .isa = "portable"});
  return 0;
}
