// The forms of hybrid decoders and of DeepSeek-V3 against files that llama.cpp's own converter wrote (tools/llama-cpp/converter_files.py).
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "engine/convert.h"
#include "engine/model.h"
#include "io/decode.h"
#include "io/gguf/reader.h"
#include "io/io_test_support.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kModels[] = {"qwen3_5", "qwen3_5_moe", "qwen3_next", "deepseek_v3"};
// Of -exp(log(-a)) in float32 from a: what the logarithm, rounded to double, leaves.
constexpr double kRateRounding = 1.2e-7;

using Folder = test::TemporaryFolder;

fs::path data() {
  return fs::path(PLUMB_SOURCE_DIR) / "tests" / "data" / "gguf";
}

fs::path converters(std::string_view model) {
  return data() / (std::string(model) + "-llama.cpp") / "model.gguf";
}

Status convert(const fs::path& in, const fs::path& out, std::string_view type) {
  return convert_to_gguf(in, out, {.type = *gguf_file_type(type), .threads = 2}, {});
}

std::vector<double> decoded(const StoredTensor& tensor) {
  std::vector<double> values(static_cast<std::size_t>(element_count(tensor.shape).value_or(0)));
  decode(tensor.dtype, tensor.bytes, values);
  return values;
}

// What plumb writes of the network that it reads from the converter's file is that file, tensor for tensor to the bit.
void expect_tensors(const GgufFile& ours, const GgufFile& theirs) {
  std::set<std::string> known;
  for (const StoredTensor& expected : theirs.tensors()) {
    SCOPED_TRACE(expected.name);
    if (expected.name.starts_with("blk.3.")) continue;  // predicts a second token
    const StoredTensor* tensor = ours.find(expected.name);
    ASSERT_NE(tensor, nullptr);
    known.emplace(expected.name);
    EXPECT_EQ(tensor->shape, expected.shape);
    EXPECT_EQ(tensor->dtype, expected.dtype);
    if (expected.name.ends_with(".ssm_a")) {
      const auto rates = decoded(*tensor);
      const auto wanted = decoded(expected);
      for (std::size_t i = 0; i < wanted.size(); ++i)
        EXPECT_NEAR(rates.at(i) / wanted[i], 1, kRateRounding);
    } else {
      EXPECT_TRUE(std::equal(tensor->bytes.begin(), tensor->bytes.end(), expected.bytes.begin(),
                             expected.bytes.end()));
    }
  }
  for (const StoredTensor& tensor : ours.tensors())
    EXPECT_TRUE(known.contains(std::string(tensor.name))) << tensor.name;
}

bool equal(const GgufValue& one, const GgufValue& other) {
  if (one.size() != other.size() || one.texts != other.texts) return false;
  for (std::size_t i = 0; i < one.size(); ++i) {
    if (one.number(i) != other.number(i) || one.flag(i) != other.flag(i)) return false;
  }
  return true;
}

// Every key of the converter with its value; types may differ in width.
void expect_keys(const GgufFile& ours, const GgufFile& theirs) {
  const bool predicts = theirs.value("qwen35.nextn_predict_layers") != nullptr;
  for (const auto& [key, expected] : theirs.metadata()) {
    if (key.starts_with("general.") && key != "general.architecture") continue;
    if (predicts && (key == "qwen35.block_count" || key == "qwen35.nextn_predict_layers" ||
                     key == "qwen35.attention.recurrent_layers"))
      continue;
    const GgufValue* value = ours.value(key);
    ASSERT_NE(value, nullptr) << key;
    EXPECT_TRUE(equal(*value, expected)) << key;
  }
}

TEST(GgufForms, WrittenAsLlamaCppsConverterWrites) {
  for (const std::string_view model : kModels) {
    SCOPED_TRACE(model);
    const Folder folder;
    const Status written = convert(converters(model), folder / "model.gguf", "BF16");
    ASSERT_TRUE(written.ok()) << written.error().message;
    const auto ours = GgufFile::open(folder / "model.gguf").value();
    const auto theirs = GgufFile::open(converters(model)).value();
    expect_tensors(*ours, *theirs);
    expect_keys(*ours, *theirs);
  }
}

// The tensor types that llama-quantize chose for the same models: MODEL FILE_TYPE TENSOR TYPE.
TEST(GgufForms, TypesAreLlamaQuantizes) {
  std::ifstream lines(data() / "llama-quantize-types.txt");
  std::map<std::pair<std::string, std::string>, std::map<std::string, std::string>> types;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string model;
    std::string type;
    std::string tensor;
    words >> model >> type >> tensor;
    words >> types[{model, type}][tensor];
  }
  ASSERT_EQ(types.size(), std::size(kModels) * 5);
  for (const auto& [kind, expected] : types) {
    SCOPED_TRACE(kind.first + " " + kind.second);
    const Folder folder;
    const Status written = convert(converters(kind.first), folder / "model.gguf", kind.second);
    ASSERT_TRUE(written.ok()) << written.error().message;
    const auto file = GgufFile::open(folder / "model.gguf").value();
    EXPECT_EQ(file->tensors().size(), expected.size());
    for (const auto& [tensor, type] : expected) {
      ASSERT_NE(file->find(tensor), nullptr) << tensor;
      EXPECT_EQ(to_string(file->find(tensor)->dtype), type) << tensor;
    }
    const auto model = Model::load(folder / "model.gguf", {});
    EXPECT_TRUE(model.ok()) << model.error().message;
  }
}

// Layers that predict further tokens are known as such by the key alone.
TEST(GgufForms, DeepSeekOfOlderFormsIsRefused) {
  std::ifstream in(converters("deepseek_v3"), std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), {});
  const Folder folder;
  const auto refused = [&](const std::string& key, const std::string& other) {
    std::string changed = bytes;
    const auto at = changed.find(key);
    EXPECT_NE(at, std::string::npos) << key;
    changed.replace(at, key.size(), other);
    std::ofstream(folder / "model.gguf", std::ios::binary) << changed;
    const auto model = Model::load(folder / "model.gguf", {});
    return model.ok() ? std::string("loaded") : model.error().message;
  };
  EXPECT_NE(refused("deepseek2.expert_gating_func", "deepseek2.expert_gating_fund")
                .find("\"deepseek2.expert_gating_func\" is absent, and only 2 is known"),
            std::string::npos);
  EXPECT_NE(refused("deepseek2.attention.key_length_mla", "deepseek2.attention.key_length_mlb")
                .find("\"deepseek2.attention.key_length_mla\" is absent"),
            std::string::npos);
}

}  // namespace
}  // namespace plumb
