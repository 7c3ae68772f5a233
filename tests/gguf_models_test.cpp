// GGUF files as models: logits of the golden references, in float32 arithmetic on exactly dequantised weights.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "engine/model.h"
#include "graph/executor.h"
#include "io/decode.h"
#include "io/tensor_source.h"
#include "reference/executor.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

constexpr double kTolerance = 2e-5;  // correct float32 engines measure 2e-7 to 1e-6 here

std::vector<double> values_of(const TensorSource& source, const std::string& name) {
  const StoredTensor* tensor = source.find(name);
  EXPECT_NE(tensor, nullptr) << name;
  if (tensor == nullptr) return {};
  std::vector<double> values(static_cast<std::size_t>(element_count(tensor->shape).value_or(0)));
  decode(tensor->dtype, tensor->bytes, values);
  return values;
}

double relative_distance(std::span<const double> ours, std::span<const double> theirs) {
  double difference = 0;
  double size = 0;
  for (std::size_t i = 0; i < theirs.size(); ++i) {
    difference += (ours[i] - theirs[i]) * (ours[i] - theirs[i]);
    size += theirs[i] * theirs[i];
  }
  return std::sqrt(difference / size);
}

// The worst distance of the three prompts' logits from the golden ones.
double distance_from_golden(const fs::path& folder) {
  const auto model = Model::load(folder / "model.gguf", {});
  EXPECT_TRUE(model.ok()) << (model.ok() ? "" : model.error().message);
  const auto golden = open_safetensors(folder / "golden.safetensors");
  EXPECT_TRUE(golden.ok()) << (golden.ok() ? "" : golden.error().message);
  if (!model.ok() || !golden.ok()) return INFINITY;
  EXPECT_TRUE(model.value().warnings.empty()) << model.value().warnings.front();
  const auto executor = make_executor(model.value(), {.precision = Precision::kFp32, .threads = 1}).value();
  double worst = 0;
  for (const std::string prompt : {"capital", "chat", "unicode"}) {
    const std::vector<double> stored_ids = values_of(*golden.value(), prompt + "/ids");
    const std::vector<std::int32_t> ids(stored_ids.begin(), stored_ids.end());
    const auto sequence = executor->start();
    const auto logits = executor->forward(
        *sequence, ids, {.rows = LogitRows::kAll, .chunk = 0, .observer = nullptr, .progress = {}});
    EXPECT_TRUE(logits.ok()) << (logits.ok() ? "" : logits.error().message);
    if (!logits.ok()) return INFINITY;
    worst = std::max(worst, relative_distance(logits.value().data,
                                              values_of(*golden.value(), prompt + "/logits")));
  }
  return worst;
}

// Every folder of `root` that holds a GGUF file and golden logits; how many there were.
int compare_under(const fs::path& root) {
  int compared = 0;
  for (const auto& entry : fs::directory_iterator(root)) {
    if (!fs::exists(entry.path() / "model.gguf")) continue;
    const double distance = distance_from_golden(entry.path());
    std::cout << entry.path().filename().string() << ": " << distance << '\n';
    EXPECT_LE(distance, kTolerance) << entry.path();
    ++compared;
  }
  return compared;
}

TEST(GgufModels, LogitsAreTheGoldenOnes) {
  EXPECT_EQ(compare_under(fs::path(PLUMB_SOURCE_DIR) / "tests" / "data" / "gguf"), 6);
  const fs::path shared = fs::path(PLUMB_SHARED_DIR) / "fixtures" / "quantised";
  if (fs::exists(shared)) {
    EXPECT_EQ(compare_under(shared), 17);
  } else {
    std::cerr << "NOT RUN: " << shared << " is not there\n";
    EXPECT_EQ(std::getenv("CI"), nullptr);
  }
}

}  // namespace
}  // namespace plumb
