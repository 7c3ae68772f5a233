// Checkpoints in the stored forms in which models are published, against the logits of their weights dequantised exactly
// (tests/data/README.md): FP8, MXFP4, NVFP4 and the integers of compressed-tensors.
#include <cmath>

#include "golden.h"
#include "io/io_test_support.h"

namespace plumb {
namespace {

constexpr double kTolerance = 2e-5;

struct Checkpoint {
  std::string name;
  bool shared;  // lies in ../shared, not in the clone
};

const Checkpoint kCheckpoints[] = {
    {"qwen3-fp8-block", false},      {"llama-ct-mxfp4", false},
    {"qwen3-modelopt-nvfp4", false}, {"qwen3-ct-nvfp4", false},
    {"llama-ct-int4-g32-zp", false}, {"llama-fp8-block-bf16scale", true},
    {"qwen3_moe-fp8-block", true},   {"llama-ct-fp8-block", true},
    {"llama-ct-fp8-tensor", true},   {"qwen3-ct-fp8-channel", true},
    {"llama-modelopt-fp8", true},    {"gpt_oss-mxfp4", true},
    {"qwen3_moe-ct-nvfp4", true},    {"llama-ct-int8", true},
    {"llama-ct-int8-g32", true},     {"qwen3-ct-int4-g32", true},
    {"deepseek_v4-fp8-mxfp4", true},
    {"deepseek_v4-fp8-nvfp4", true},
};

class Quantised : public testing::TestWithParam<Checkpoint> {};

TEST_P(Quantised, LogitsOfTheExactWeights) {
  const std::filesystem::path below = std::filesystem::path("fixtures/quantised") / GetParam().name;
  std::filesystem::path folder = golden::data_folder() / "quantised" / GetParam().name;
  if (GetParam().shared) {
    if (!test::has_shared(below)) return;
    folder = std::filesystem::path(PLUMB_SHARED_DIR) / below;
  }
  const auto model = Model::load(folder, {});
  ASSERT_TRUE(model.ok()) << model.error().message;
  EXPECT_TRUE(model.value().warnings.empty()) << model.value().warnings[0];
  const auto source = open_safetensors(folder / "golden.safetensors");
  ASSERT_TRUE(source.ok()) << source.error().message;
  for (const std::string prompt : {"capital", "chat", "unicode"}) {
    const auto ids = golden::ids(*source.value(), prompt + "/ids");
    const Tensor expected = golden::tensor(*source.value(), prompt + "/logits");
    const Tensor logits = golden::logits(model.value().network, ids, Precision::kFp32, 2, 0);
    const double distance = golden::distance(logits, expected);
    std::printf("%-26s %-8s fp32 distance %.1e\n", GetParam().name.c_str(), prompt.c_str(),
                distance);
    EXPECT_LE(distance, kTolerance) << prompt;
    EXPECT_EQ(golden::argmax_changes(logits, expected), 0) << prompt;
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, Quantised, testing::ValuesIn(kCheckpoints),
                         [](const auto& fixture) {
                           return golden::test_name(testing::TestParamInfo<std::string>(
                               fixture.param.name, fixture.index));
                         });

}  // namespace
}  // namespace plumb
