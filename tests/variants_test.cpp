// The variants of the plain decoder against transformers: trained checkpoints (tests/data/checkpoints)
// and random ones of a few kilobytes (tests/data/variants), each with both forms of its
// configuration; any split of the tokens; configurations that no model has.
#include <fstream>

#include "core/mapped_file.h"
#include "golden.h"
#include "io/io_test_support.h"

namespace plumb {
namespace {

constexpr double kTolerance = 2e-5;

struct Case {
  std::string folder;  // of tests/data
  std::vector<std::string> prompts;
};

const std::vector<std::string> kAllPrompts = {"capital", "sum", "one", "chat", "unicode", "long"};

std::vector<Case> cases() {
  std::vector<Case> list;
  for (const char* name : {"gemma2", "gemma3", "gpt_oss"})
    list.push_back({std::string("checkpoints/") + name, kAllPrompts});
  for (const char* name : {"gemma3", "glm4", "olmo2", "olmo3", "phi3", "smollm3"})
    list.push_back({std::string("variants/") + name, {"short", "long"}});
  return list;
}

std::shared_ptr<const TensorSource> open_golden(const std::string& folder) {
  auto source = open_safetensors(golden::data_folder() / folder / "golden/golden.safetensors");
  EXPECT_TRUE(source.ok()) << source.error().message;
  return source.ok() ? source.value() : nullptr;
}

class Variant : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    golden_ = open_golden(GetParam().folder);
    ASSERT_NE(golden_, nullptr);
  }

  Result<Model> load(const std::string& config) const {
    const auto folder = golden::data_folder() / GetParam().folder;
    return Model::load(folder, {.config_file = folder / config});
  }

  std::shared_ptr<const TensorSource> golden_;
};

TEST_P(Variant, LogitsInBothFormsOfTheConfiguration) {
  for (const std::string config : {"config.json", "config.v4.json"}) {
    const auto model = load(config);
    ASSERT_TRUE(model.ok()) << model.error().message;
    EXPECT_TRUE(model.value().warnings.empty()) << model.value().warnings[0];
    for (const std::string& prompt : GetParam().prompts) {
      const auto ids = golden::ids(*golden_, prompt + "/ids");
      const Tensor expected = golden::tensor(*golden_, prompt + "/logits_f32");
      const Tensor logits = golden::run(model.value().network, ids, {});
      const double distance = golden::distance(logits, expected);
      std::printf("%-20s %-14s %-8s fp32 distance %.1e\n", GetParam().folder.c_str(),
                  config.c_str(), prompt.c_str(), distance);
      EXPECT_LE(distance, kTolerance) << config << ", " << prompt;
      EXPECT_EQ(golden::argmax_changes(logits, expected), 0) << config << ", " << prompt;
    }
  }
}

// hf-bf16 is nearer to the reference's bfloat16 than that is to its float32. Two orders of
// summation put an exact emulation at 0.5 to 0.7.
TEST_P(Variant, Bfloat16IsEmulated) {
  const auto model = load("config.json");
  ASSERT_TRUE(model.ok()) << model.error().message;
  double ours = 0;
  double own = 0;
  for (const std::string& prompt : GetParam().prompts) {
    const auto ids = golden::ids(*golden_, prompt + "/ids");
    const Tensor bf16 = golden::tensor(*golden_, prompt + "/logits_bf16");
    const Tensor f32 = golden::tensor(*golden_, prompt + "/logits_f32");
    const Tensor logits =
        golden::run(model.value().network, ids, {.precision = Precision::kHfBf16});
    for (std::size_t i = 0; i < bf16.data.size(); ++i) {
      ours += (logits.data[i] - bf16.data[i]) * (logits.data[i] - bf16.data[i]);
      own += (f32.data[i] - bf16.data[i]) * (f32.data[i] - bf16.data[i]);
    }
  }
  std::printf("%-20s bf16 ratio %.3f\n", GetParam().folder.c_str(), std::sqrt(ours / own));
  EXPECT_LE(std::sqrt(ours / own), 0.85);
}

TEST_P(Variant, SplitsAndThreadsKeepTheBits) {
  const auto model = load("config.json");
  ASSERT_TRUE(model.ok()) << model.error().message;
  const auto ids = golden::ids(*golden_, "long/ids");
  const Tensor whole = golden::run(model.value().network, ids, {.threads = 1});
  for (const std::int64_t chunk : {1, 3, 7}) {
    const Tensor split = golden::run(model.value().network, ids, {.threads = 2, .chunk = chunk});
    EXPECT_EQ(split.data, whole.data) << "chunk " << chunk;
  }
  // Longrope's factors follow the length that is known when a pass starts: decoding across its
  // original length is another computation there, as in the reference.
  if (GetParam().folder == "variants/phi3") return;
  EXPECT_EQ(golden::run(model.value().network, ids, {.one_by_one = 30}).data, whole.data);
}

INSTANTIATE_TEST_SUITE_P(All, Variant, testing::ValuesIn(cases()), [](const auto& parameter) {
  std::string name = parameter.param.folder;
  std::replace(name.begin(), name.end(), '/', '_');
  return name;
});

class VariantGreedy : public testing::TestWithParam<std::string> {};

TEST_P(VariantGreedy, SixtyFourTokens) {
  const std::string folder = "checkpoints/" + GetParam();
  const auto source = open_golden(folder);
  ASSERT_NE(source, nullptr);
  const auto model = Model::load(golden::data_folder() / folder, {});
  ASSERT_TRUE(model.ok()) << model.error().message;
  for (const std::string& prompt : kAllPrompts) {
    auto ids = golden::ids(*source, prompt + "/ids");
    const auto greedy = golden::ids(*source, prompt + "/greedy_f32");
    ASSERT_EQ(greedy.size(), 64U);
    const auto count = static_cast<std::int64_t>(ids.size());
    ids.insert(ids.end(), greedy.begin(), greedy.end());
    const Tensor logits = golden::run(model.value().network, ids, {.one_by_one = greedy.size()});
    for (std::size_t step = 0; step < greedy.size(); ++step) {
      const auto row = logits.row(count - 1 + static_cast<std::int64_t>(step));
      EXPECT_EQ(std::max_element(row.begin(), row.end()) - row.begin(), greedy[step])
          << prompt << " step " << step;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, VariantGreedy, testing::Values("gemma2", "gemma3", "gpt_oss"),
                         [](const auto& parameter) { return parameter.param; });

// The configuration of `folder` with one text replaced must be refused in one sentence that holds
// `what`.
void expect_refusal(const std::string& folder, const std::string& from, const std::string& to,
                    const std::string& what) {
  const auto path = golden::data_folder() / folder;
  std::string text = read_text_file(path / "config.json", 1 << 20).value();
  const auto place = text.find(from);
  ASSERT_NE(place, std::string::npos) << from;
  text.replace(place, from.size(), to);
  const test::TemporaryFolder scratch;
  const auto model = Model::load(path, {.config_file = scratch.write("config.json", text)});
  ASSERT_FALSE(model.ok()) << to;
  EXPECT_NE(model.error().message.find(what), std::string::npos) << model.error().message;
}

TEST(VariantConfigurations, ImpossibleOnesAreRefused) {
  const std::string gemma2 = "checkpoints/gemma2";
  expect_refusal(gemma2, "\"query_pre_attn_scalar\": 48", "\"query_pre_attn_scalar\": 0",
                 "query_pre_attn_scalar");
  expect_refusal(gemma2, "\"attn_logit_softcapping\": 50.0", "\"attn_logit_softcapping\": 0",
                 "attn_logit_softcapping");
  expect_refusal(gemma2, "\"final_logit_softcapping\": 30.0", "\"final_logit_softcapping\": -1",
                 "final_logit_softcapping");
  expect_refusal(gemma2, "\"use_bidirectional_attention\": null",
                 "\"use_bidirectional_attention\": true", "use_bidirectional_attention");
  expect_refusal(gemma2, "\"sliding_window\": 24", "\"sliding_window\": null", "sliding_window");
  expect_refusal(gemma2, "\"sliding_attention\"", "\"chunked_attention\"", "chunked_attention");
  expect_refusal("checkpoints/gpt_oss", "\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 9",
                 "experts");
  expect_refusal("variants/phi3", "\"longrope\"", "\"dynamic\"", "dynamic");
  expect_refusal("variants/phi3", "\"partial_rotary_factor\": 0.75",
                 "\"partial_rotary_factor\": 0.25", "short_factor");
  expect_refusal("variants/smollm3", "\"no_rope_layer_interval\": 4",
                 "\"no_rope_layer_interval\": 0", "no_rope_layer_interval");
  expect_refusal("variants/smollm3", "\"num_hidden_layers\": 4", "\"num_hidden_layers\": 5",
                 "layer_types");
  expect_refusal("variants/smollm3", "\"use_sliding_window\": true",
                 "\"use_sliding_window\": false", "sliding_attention");
}

}  // namespace
}  // namespace plumb
