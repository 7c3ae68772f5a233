// Checkpoints that mlx-lm converted and quantised, against mlx-lm's own logits in float32 arithmetic (tests/data/mlx, and
// all ten of them in ../shared where it is).
#include "golden.h"
#include "io/io_test_support.h"

namespace plumb {
namespace {

// mlx sums products group by group, in an order of its own: what is left over is the order of summation.
constexpr double kLimit = 2e-5;

constexpr const char* kHere[] = {"qwen3-q3", "qwen3-nvfp4", "olmoe-q4", "qwen3_5-q4"};
constexpr const char* kShared[] = {"llama-q2",    "llama-q5",       "llama-q6", "olmoe-q4",
                                   "qwen3-nvfp4", "qwen3-q3",       "qwen3-q8", "qwen3_5-q4",
                                   "qwen3_5-raw", "qwen3_moe-mxfp8"};

void expect_golden_logits(const std::filesystem::path& folder) {
  SCOPED_TRACE(folder.string());
  const auto model = Model::load(folder, {});
  ASSERT_TRUE(model.ok()) << model.error().message;
  EXPECT_TRUE(model.value().warnings.empty()) << model.value().warnings.front();
  const auto source = open_safetensors(folder / "golden.safetensors");
  ASSERT_TRUE(source.ok()) << source.error().message;
  const std::string name = folder.filename();
  const golden::Golden original(name.substr(0, name.find('-')));  // has the prompts' ids
  for (const std::string prompt : {"capital", "chat", "unicode"}) {
    const Tensor ours =
        golden::logits(model.value().network, original.ids(prompt), Precision::kFp32, 2, 0);
    const Tensor theirs = golden::tensor(*source.value(), prompt + "/logits");
    const double distance = golden::distance(ours, theirs);
    std::cout << name << ' ' << prompt << ' ' << distance << '\n';
    EXPECT_LT(distance, kLimit) << prompt;
    EXPECT_EQ(golden::argmax_changes(ours, theirs), 0) << prompt;
  }
}

TEST(MlxModels, GiveMlxLmsLogits) {
  for (const char* name : kHere)
    expect_golden_logits(golden::data_folder() / "mlx" / name);
}

TEST(MlxModels, AllThatAreShared) {
  if (!test::has_shared("fixtures/mlx")) return;
  for (const char* name : kShared)
    expect_golden_logits(std::filesystem::path(PLUMB_SHARED_DIR) / "fixtures/mlx" / name);
}

}  // namespace
}  // namespace plumb
