// Hybrid decoders against transformers: logits and greedy tokens of the checkpoints of tests/data,
// any split of the tokens, every published form, and configurations that no model has.
#include "core/mapped_file.h"
#include "golden.h"
#include "io/io_test_support.h"
#include "models/support/registry.h"

namespace plumb {
namespace {

constexpr double kTolerance = 2e-5;
constexpr const char* kPrompts[] = {"capital", "sum", "one", "chat", "unicode", "long"};

std::shared_ptr<const TensorSource> open(const std::filesystem::path& path) {
  auto source = open_safetensors(path);
  EXPECT_TRUE(source.ok()) << source.error().message;
  return source.ok() ? source.value() : nullptr;
}

std::filesystem::path folder_of(const std::string& name) {
  return golden::data_folder() / "checkpoints" / name;
}

std::filesystem::path golden_of(const std::string& name) {
  return folder_of(name) / "golden/golden.safetensors";
}

class Hybrid : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto model = Model::load(folder_of(GetParam()), {});
    ASSERT_TRUE(model.ok()) << model.error().message;
    EXPECT_TRUE(model.value().warnings.empty()) << model.value().warnings[0];
    model_ = std::make_unique<Model>(std::move(model).value());
    golden_ = open(golden_of(GetParam()));
    ASSERT_NE(golden_, nullptr);
  }

  std::unique_ptr<Model> model_;
  std::shared_ptr<const TensorSource> golden_;
};

TEST_P(Hybrid, LogitsAndGreedyTokens) {
  for (const std::string prompt : kPrompts) {
    auto ids = golden::ids(*golden_, prompt + "/ids");
    const auto greedy = golden::ids(*golden_, prompt + "/greedy_f32");
    const Tensor expected = golden::tensor(*golden_, prompt + "/logits_f32");
    const auto count = static_cast<std::int64_t>(ids.size());
    ids.insert(ids.end(), greedy.begin(), greedy.end());
    ASSERT_EQ(greedy.size(), 64U);
    // One prefill, then each of the golden's tokens in a forward pass of its own.
    Tensor logits = golden::run(model_->network, ids, {.one_by_one = greedy.size()});
    for (std::size_t step = 0; step < greedy.size(); ++step) {
      const auto row = logits.row(count - 1 + static_cast<std::int64_t>(step));
      EXPECT_EQ(std::max_element(row.begin(), row.end()) - row.begin(), greedy[step])
          << prompt << " step " << step;
    }
    logits.shape[0] = count;
    logits.data.resize(expected.data.size());
    const double distance = golden::distance(logits, expected);
    std::printf("%-12s %-8s fp32 distance %.1e\n", GetParam().c_str(), prompt.c_str(), distance);
    EXPECT_LE(distance, kTolerance) << prompt;
    EXPECT_EQ(golden::argmax_changes(logits, expected), 0) << prompt;
  }
}

TEST_P(Hybrid, SplitsAndThreadsKeepTheBits) {
  const auto ids = golden::ids(*golden_, "long/ids");
  const Tensor whole = golden::run(model_->network, ids, {.threads = 1});
  for (const std::int64_t chunk : {1, 3, 7, 64}) {
    for (const int threads : {1, 2}) {
      const Tensor split = golden::run(model_->network, ids, {.threads = threads, .chunk = chunk});
      EXPECT_EQ(split.data, whole.data) << "chunk " << chunk << ", threads " << threads;
    }
  }
  EXPECT_EQ(golden::run(model_->network, ids, {.one_by_one = 70}).data, whole.data);
}

// The form that transformers prefills with reaches the same logits.
TEST_P(Hybrid, ChunkedFormAgrees) {
  for (Stage& stage : model_->network.graph.stages) {
    if (auto* rule = std::get_if<DeltaRule>(&stage.operation)) rule->form = DeltaForm::kChunked;
  }
  const auto ids = golden::ids(*golden_, "long/ids");
  const Tensor expected = golden::tensor(*golden_, "long/logits_f32");
  for (const std::size_t one_by_one : {0U, 3U, 100U}) {
    const Tensor logits = golden::run(model_->network, ids, {.one_by_one = one_by_one});
    EXPECT_LE(golden::distance(logits, expected), kTolerance) << one_by_one;
  }
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, Hybrid,
                         testing::Values("qwen3_5", "qwen3_5_moe", "qwen3_next"),
                         [](const auto& parameter) { return parameter.param; });

double distance_to(const std::filesystem::path& folder, const std::filesystem::path& golden_file,
                   const std::string& prompt, const std::string& kind) {
  const auto model = Model::load(folder, {});
  EXPECT_TRUE(model.ok()) << model.error().message;
  if (!model.ok()) return 1;
  EXPECT_TRUE(model.value().warnings.empty()) << model.value().warnings[0];
  const auto ids = golden::ids(*open(golden_of("qwen3_5")), prompt + "/ids");
  const Tensor expected = golden::tensor(*open(golden_file), prompt + "/" + kind);
  const Tensor logits = golden::run(model.value().network, ids, {});
  EXPECT_EQ(golden::argmax_changes(logits, expected), 0) << prompt;
  return golden::distance(logits, expected);
}

// A wrapper with a vision tower and a head that predicts further tokens.
TEST(HybridForms, Published) {
  const std::filesystem::path shared = PLUMB_SHARED_DIR;
  if (!test::has_shared("fixtures/published/qwen3_5")) return;
  for (const std::string prompt : kPrompts) {
    EXPECT_LE(distance_to(shared / "fixtures/published/qwen3_5", golden_of("qwen3_5"), prompt,
                          "logits_f32"),
              kTolerance)
        << prompt;
  }
}

// mlx-lm's conversion: norms hold the rounded 1 + w, so it is judged by mlx-lm's own logits. mlx-lm
// on the published form rounds the same sums when it loads, which is all that parts it from
// transformers.
TEST(HybridForms, ConvertedByMlx) {
  const std::filesystem::path shared = PLUMB_SHARED_DIR;
  if (!test::has_shared("fixtures/mlx/qwen3_5-raw")) return;
  const auto converted = shared / "fixtures/mlx/qwen3_5-raw";
  for (const std::string prompt : {"capital", "chat", "unicode"}) {
    const double distance =
        distance_to(converted, converted / "golden.safetensors", prompt, "logits");
    std::printf("converted    %-8s from mlx-lm %.1e\n", prompt.c_str(), distance);
    EXPECT_LE(distance, kTolerance) << prompt;
  }
  for (const std::string prompt : {"capital", "unicode"}) {
    const auto mlx = shared / "fixtures/mlx/qwen3_5.safetensors";
    EXPECT_LE(distance_to(converted, mlx, prompt, "logits_f32"), kTolerance) << prompt;
    const double published = distance_to(folder_of("qwen3_5"), mlx, prompt, "logits_f32");
    std::printf("published    %-8s from mlx-lm %.1e\n", prompt.c_str(), published);
    EXPECT_GT(published, 4e-4) << prompt;
    EXPECT_LT(published, 4e-3) << prompt;
  }
}

// The configuration of `name` with one key changed must be refused in one sentence that holds
// `what`.
void expect_refusal(const std::string& name, const std::string& from, const std::string& to,
                    const std::string& what) {
  std::string text = read_text_file(folder_of(name) / "config.json", 1 << 20).value();
  const auto place = text.find(from);
  ASSERT_NE(place, std::string::npos) << from;
  text.replace(place, from.size(), to);
  auto config = Config::parse(text, "config.json");
  ASSERT_TRUE(config.ok()) << config.error().message;
  const Architecture* architecture = find_architecture(config.value().text_model_type());
  ASSERT_NE(architecture, nullptr);
  ASSERT_TRUE(config.value().apply_defaults(architecture->defaults).ok());
  const auto graph = architecture->record(config.value());
  ASSERT_FALSE(graph.ok()) << to;
  EXPECT_NE(graph.error().message.find(what), std::string::npos) << graph.error().message;
}

TEST(HybridConfigurations, ImpossibleOnesAreRefused) {
  const auto key_heads = "\"linear_num_key_heads\": 2";
  expect_refusal("qwen3_5", key_heads, "\"linear_num_key_heads\": 0", "linear_num_key_heads");
  expect_refusal("qwen3_5", key_heads, "\"linear_num_key_heads\": 3", "do not fit");
  expect_refusal("qwen3_5", key_heads, "\"linear_num_key_heads\": 9007199254740993",
                 "linear_num_key_heads");
  expect_refusal("qwen3_5", "\"linear_value_head_dim\": 32", "\"linear_value_head_dim\": 1048576",
                 "recurrent state");
  expect_refusal("qwen3_5", "\"linear_conv_kernel_dim\": 4", "\"linear_conv_kernel_dim\": 100000",
                 "taps");
  expect_refusal("qwen3_5", "\"linear_attention\"", "\"sliding_attention\"", "layer_types");
  expect_refusal("qwen3_5", "\"partial_rotary_factor\": 0.25", "\"partial_rotary_factor\": 0",
                 "rotate");
  expect_refusal("qwen3_next", "\"linear_num_key_heads\": 3", "\"linear_num_key_heads\": 5",
                 "cannot take");
}

}  // namespace
}  // namespace plumb
