// Writing GGUF: what is written is read back as the same model.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "engine/convert.h"
#include "engine/model.h"
#include "graph/executor.h"
#include "io/decode.h"
#include "io/gguf/quantise.h"
#include "io/gguf/reader.h"
#include "io/io_test_support.h"
#include "io/tensor_source.h"
#include "reference/executor.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

constexpr int kSteps = 64;

using Folder = test::TemporaryFolder;

std::vector<std::int32_t> ids_of(const TensorSource& source, const std::string& name) {
  const StoredTensor* tensor = source.find(name);
  EXPECT_NE(tensor, nullptr) << name;
  if (tensor == nullptr) return {};
  std::vector<double> values(static_cast<std::size_t>(element_count(tensor->shape).value_or(0)));
  decode(tensor->dtype, tensor->bytes, values);
  return {values.begin(), values.end()};
}

std::vector<std::int32_t> greedy(const Model& model, std::vector<std::int32_t> ids, int steps) {
  const auto executor = make_executor(model, {.precision = Precision::kFp32, .threads = 2}).value();
  const auto sequence = executor->start();
  std::vector<std::int32_t> chosen;
  for (int step = 0; step < steps; ++step) {
    const auto logits = executor->forward(*sequence, ids, {});
    EXPECT_TRUE(logits.ok()) << (logits.ok() ? "" : logits.error().message);
    if (!logits.ok()) return {};
    const auto& row = logits.value().data;
    chosen.push_back(
        static_cast<std::int32_t>(std::max_element(row.begin(), row.end()) - row.begin()));
    ids = {chosen.back()};
  }
  return chosen;
}

Status convert(const fs::path& in, const fs::path& out, std::string_view type) {
  return convert_to_gguf(in, out, {.type = *gguf_file_type(type), .threads = 2}, {});
}

// The golden greedy tokens of every prompt, from a GGUF file in F32 that was written from the folder.
void expect_same_tokens(const fs::path& checkpoint) {
  SCOPED_TRACE(checkpoint.string());
  const Folder folder;
  const fs::path file = folder / "model.gguf";
  const Status written = convert(checkpoint, file, "F32");
  ASSERT_TRUE(written.ok()) << written.error().message;
  const auto model = Model::load(file, {});
  ASSERT_TRUE(model.ok()) << model.error().message;
  EXPECT_TRUE(model.value().warnings.empty()) << model.value().warnings.front();
  const auto tokenizer = load_tokenizer(checkpoint).value();
  ASSERT_EQ(model.value().tokenizer == nullptr, tokenizer == nullptr);
  constexpr std::string_view kText =
      "<|im_start|>user\nThe capital of France is Paris, 12345 naïve 日本語 \t  x";
  for (const bool parse_special : {false, true}) {
    if (tokenizer == nullptr) break;
    const EncodeOptions options{.add_special = true, .parse_special = parse_special};
    EXPECT_EQ(model.value().tokenizer->encode(kText, options).value(),
              tokenizer->encode(kText, options).value());
  }
  const auto golden = open_safetensors(checkpoint / "golden" / "golden.safetensors");
  ASSERT_TRUE(golden.ok()) << golden.error().message;
  for (const std::string prompt : {"capital", "chat", "unicode"}) {
    EXPECT_EQ(greedy(model.value(), ids_of(*golden.value(), prompt + "/ids"), kSteps),
              ids_of(*golden.value(), prompt + "/greedy_f32"))
        << prompt;
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 1)
      << "a temporary file is left";
}

TEST(GgufConvert, EveryCheckpointGivesItsGoldenTokens) {
  const fs::path root = fs::path(PLUMB_SOURCE_DIR) / "tests" / "data" / "checkpoints";
  int converted = 0;
  for (const auto& entry : fs::directory_iterator(root)) {
    expect_same_tokens(entry.path());
    ++converted;
  }
  EXPECT_EQ(converted, 14);
}

// The logits of 60 positions, one by one, of the same ids: a file in F32 against the folder that it was written from. What
// differs is what metadata round to float32.
void expect_same_logits(const fs::path& checkpoint) {
  SCOPED_TRACE(checkpoint.string());
  const Folder folder;
  const fs::path file = folder / "model.gguf";
  const Status written = convert(checkpoint, file, "F32");
  ASSERT_TRUE(written.ok()) << written.error().message;
  const auto expected = Model::load(checkpoint, {});
  const auto model = Model::load(file, {});
  ASSERT_TRUE(expected.ok()) << expected.error().message;
  ASSERT_TRUE(model.ok()) << model.error().message;
  EXPECT_TRUE(model.value().warnings.empty()) << model.value().warnings.front();
  EXPECT_EQ(model.value().config->model_type(), expected.value().config->model_type());
  const auto one =
      make_executor(expected.value(), {.precision = Precision::kFp32, .threads = 1}).value();
  const auto other =
      make_executor(model.value(), {.precision = Precision::kFp32, .threads = 1}).value();
  const auto one_sequence = one->start();
  const auto other_sequence = other->start();
  constexpr double kLargest = 2e-6;
  for (std::int32_t step = 0; step < 60; ++step) {
    const std::vector<std::int32_t> ids = {(step * 29 + 3) % 96};
    const auto want = one->forward(*one_sequence, ids, {});
    const auto got = other->forward(*other_sequence, ids, {});
    ASSERT_TRUE(want.ok() && got.ok());
    ASSERT_EQ(want.value().data.size(), got.value().data.size());
    double difference = 0;
    double norm = 0;
    for (std::size_t i = 0; i < want.value().data.size(); ++i) {
      difference += std::pow(want.value().data[i] - got.value().data[i], 2);
      norm += std::pow(want.value().data[i], 2);
    }
    ASSERT_LE(std::sqrt(difference / norm), kLargest) << "position " << step;
  }
  EXPECT_EQ(greedy(model.value(), {3, 32, 61}, kSteps),
            greedy(expected.value(), {3, 32, 61}, kSteps));
}

fs::path variant(const std::string& name) {
  return fs::path(PLUMB_SOURCE_DIR) / "tests" / "data" / "variants" / name;
}

TEST(GgufConvert, OlmoKeepsItsNormsAndWindows) {
  expect_same_logits(variant("olmo2"));
  expect_same_logits(variant("olmo3"));
}

TEST(GgufConvert, JoinedMatricesAreJoinedAndTakenApart) {
  expect_same_logits(variant("glm4"));
  expect_same_logits(variant("phi3"));
  const Folder folder;
  ASSERT_TRUE(convert(variant("phi3"), folder / "model.gguf", "F32").ok());
  const auto file = GgufFile::open(folder / "model.gguf").value();
  EXPECT_EQ(file->find("blk.0.attn_qkv.weight")->shape, Shape({80, 48}));
  EXPECT_EQ(file->find("blk.0.ffn_up.weight")->shape, Shape({80, 48}));
  EXPECT_EQ(file->find("blk.0.attn_q.weight"), nullptr);
  EXPECT_NE(file->find("rope_factors_long.weight"), nullptr);
}

// llama.cpp leaves each fourth layer of SmolLM3 without rotation, whatever the file says.
TEST(GgufConvert, SmolLm3OfAnotherPatternIsRefused) {
  const Folder folder;
  const Status refused = convert(variant("smollm3"), folder / "model.gguf", "F32");
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("the layer 1 has a window"), std::string::npos)
      << refused.error().message;
  nlohmann::json config = nlohmann::json::parse(std::ifstream(variant("smollm3") / "config.json"));
  config["no_rope_layers"] = {1, 1, 1, 0};
  config["use_sliding_window"] = false;
  config.erase("layer_types");
  const Folder changed;
  fs::copy(variant("smollm3") / "model.safetensors", changed / "model.safetensors");
  std::ofstream(changed / "config.json") << config;
  expect_same_logits(changed.path());
}

std::vector<double> decoded(const StoredTensor& tensor) {
  std::vector<double> values(static_cast<std::size_t>(element_count(tensor.shape).value_or(0)));
  decode(tensor.dtype, tensor.bytes, values);
  return values;
}

// A file that is written from a written file holds the same bytes of tensors: no form is applied twice or lost.
TEST(GgufConvert, FromGgufIsFromTheFolder) {
  const Folder folder;
  const fs::path checkpoint =
      fs::path(PLUMB_SOURCE_DIR) / "tests" / "data" / "checkpoints" / "llama";
  ASSERT_TRUE(convert(checkpoint, folder / "f32.gguf", "F32").ok());
  for (const char* type : {"F32", "BF16", "Q8_0", "Q4_K_M"}) {
    SCOPED_TRACE(type);
    ASSERT_TRUE(convert(checkpoint, folder / "direct.gguf", type).ok());
    ASSERT_TRUE(convert(folder / "f32.gguf", folder / "again.gguf", type).ok());
    const auto direct = GgufFile::open(folder / "direct.gguf").value();
    const auto again = GgufFile::open(folder / "again.gguf").value();
    ASSERT_EQ(direct->tensors().size(), again->tensors().size());
    for (const StoredTensor& tensor : direct->tensors()) {
      const StoredTensor* other = again->find(tensor.name);
      ASSERT_NE(other, nullptr) << tensor.name;
      EXPECT_EQ(other->dtype, tensor.dtype) << tensor.name;
      EXPECT_TRUE(std::equal(tensor.bytes.begin(), tensor.bytes.end(), other->bytes.begin(),
                             other->bytes.end()))
          << tensor.name;
    }
    EXPECT_EQ(direct->metadata().size(), again->metadata().size());
  }
}

TEST(GgufConvert, CancelledLeavesNothing) {
  const Folder folder;
  const fs::path checkpoint =
      fs::path(PLUMB_SOURCE_DIR) / "tests" / "data" / "checkpoints" / "qwen3";
  int calls = 0;
  const Status status = convert_to_gguf(checkpoint, folder / "model.gguf",
                                        {.type = *gguf_file_type("Q8_0"), .threads = 1},
                                        [&](std::uint64_t done, std::uint64_t total) {
                                          EXPECT_LE(done, total);
                                          return ++calls < 3;
                                        });
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::kCancelled);
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

// Blocks of 32 are those of the `gguf` package, which wrote the fixtures from the same checkpoints.
void expect_package_bytes(const fs::path& fixture, const fs::path& checkpoint,
                          const std::string& stored, const std::string& name) {
  SCOPED_TRACE(fixture.string() + " " + name);
  const auto file = GgufFile::open(fixture / "model.gguf");
  const auto source = open_safetensors(checkpoint);
  ASSERT_TRUE(file.ok() && source.ok());
  const StoredTensor* expected = file.value()->find(stored);
  const StoredTensor* weights = source.value()->find(name);
  ASSERT_TRUE(expected != nullptr && weights != nullptr);
  const std::vector<double> values = decoded(*weights);
  const std::vector<float> narrowed(values.begin(), values.end());
  std::vector<std::byte> bytes(expected->bytes.size());
  quantise_row(expected->dtype, narrowed, bytes);
  EXPECT_TRUE(
      std::equal(bytes.begin(), bytes.end(), expected->bytes.begin(), expected->bytes.end()));
}

TEST(GgufConvert, BlocksOf32AreTheGgufPackages) {
  const fs::path checkpoints = fs::path(PLUMB_SOURCE_DIR) / "tests" / "data" / "checkpoints";
  const fs::path data = fs::path(PLUMB_SOURCE_DIR) / "tests" / "data" / "gguf";
  expect_package_bytes(data / "llama-gguf-q4_0", checkpoints / "llama", "blk.1.ffn_up.weight",
                       "model.layers.1.mlp.up_proj.weight");
  expect_package_bytes(data / "olmoe-gguf-q4_1", checkpoints / "olmoe", "blk.1.attn_v.weight",
                       "model.layers.1.self_attn.v_proj.weight");
  const fs::path shared = fs::path(PLUMB_SHARED_DIR) / "fixtures" / "quantised";
  if (!fs::exists(shared)) {
    std::cerr << "NOT RUN: " << shared << " is not there\n";
    EXPECT_EQ(std::getenv("CI"), nullptr);
    return;
  }
  for (const char* type : {"q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "bf16", "f32"}) {
    for (const char* part : {"up", "down", "gate"}) {
      expect_package_bytes(shared / ("llama-gguf-" + std::string(type)), checkpoints / "llama",
                           "blk.2.ffn_" + std::string(part) + ".weight",
                           "model.layers.2.mlp." + std::string(part) + "_proj.weight");
    }
  }
}

}  // namespace
}  // namespace plumb
