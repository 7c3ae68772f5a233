// Rows of MLX's packed matrices against mlx's own values (tests/data/mlx, tools/make_mlx_modes.py).
#include "io/forms/mlx.h"

#include <gtest/gtest.h>

#include <cmath>

#include "io/forms/form_test_support.h"
#include "io/io_test_support.h"
#include "io/weight_map.h"
#include "io/weight_views.h"

namespace plumb {
namespace {

std::vector<double> all_of(const Weight& weight) {
  std::vector<double> values(static_cast<std::size_t>(weight.rows() * weight.row_length()));
  const auto length = static_cast<std::size_t>(weight.row_length());
  for (std::int64_t row = 0; row < weight.rows(); ++row)
    weight.read_row(row, std::span(values).subspan(static_cast<std::size_t>(row) * length, length));
  return values;
}

class MlxModes : public ::testing::Test {
 protected:
  void SetUp() override {
    auto opened = open_safetensors(test::data_path("mlx/modes.safetensors"));
    ASSERT_TRUE(opened.ok()) << opened.error().message;
    source_ = opened.value();
  }

  Result<WeightPtr> read(const std::string& name, const nlohmann::json& settings) const {
    return mlx_form(*source_->find(name + ".weight"), {source_, settings})->weight;
  }

  std::string error(const std::string& name, const nlohmann::json& settings) const {
    const auto weight = read(name, settings);
    return weight.ok() ? "no error" : weight.error().message;
  }

  // The largest distance from the stored values, relative to the value.
  double distance(const std::string& name, const nlohmann::json& settings) const {
    const auto weight = read(name, settings);
    if (!weight.ok()) {
      ADD_FAILURE() << weight.error().message;
      return 1;
    }
    const WeightPtr expected = stored_weight(source_, *source_->find(name + ".values"));
    EXPECT_EQ(weight.value()->shape(), expected->shape());
    const std::vector<double> ours = all_of(*weight.value());
    const std::vector<double> theirs = all_of(*expected);
    double worst = 0;
    for (std::size_t i = 0; i < theirs.size(); ++i)
      worst = std::max(worst, std::abs(ours[i] - theirs[i]) / std::max(std::abs(theirs[i]), 1e-30));
    return worst;
  }

  std::shared_ptr<const TensorSource> source_;
};

nlohmann::json settings(int group_size, int bits, const char* mode = "affine") {
  return {{"group_size", group_size}, {"bits", bits}, {"mode", mode}};
}

TEST_F(MlxModes, AffineOfAllBitsIsReadToTheBit) {
  const std::pair<int, std::string> groups[] = {
      {32, "bf16"}, {64, "f16"}, {128, "f32"}, {48, "bf16"}, {20, "f16"}};
  for (const int bits : {1, 2, 3, 4, 5, 6, 8}) {
    for (const auto& [group, kind] : groups) {
      const std::string name =
          "affine_" + std::to_string(bits) + "_" + std::to_string(group) + "_" + kind;
      SCOPED_TRACE(name);
      EXPECT_EQ(distance(name, settings(group, bits)), 0);
    }
  }
}

TEST_F(MlxModes, FloatingModesAreReadToTheBit) {
  EXPECT_EQ(distance("mxfp4", settings(32, 4, "mxfp4")), 0);
  EXPECT_EQ(distance("mxfp8", settings(32, 8, "mxfp8")), 0);
  EXPECT_EQ(distance("nvfp4", settings(16, 4, "nvfp4")), 0);
  EXPECT_LT(distance("nvfp4_experts", settings(16, 4, "nvfp4")),
            2e-7);  // mlx multiplies in float32
}

TEST_F(MlxModes, OverridesGoByModuleAndAreAffineUnlessTheySayOtherwise) {
  nlohmann::json all = settings(32, 8, "mxfp8");
  all["affine_3_64_f16"] = {{"group_size", 64}, {"bits", 3}};
  all["affine_4_64_f16"] = nlohmann::json::object();  // mlx's own defaults, not the file's
  all["nvfp4"] = {{"mode", "nvfp4"}};
  all["mxfp4"] = {{"mode", "mxfp4"}, {"group_size", 32}, {"bits", 4}};
  for (const char* name : {"mxfp8", "affine_3_64_f16", "affine_4_64_f16", "nvfp4", "mxfp4"})
    EXPECT_EQ(distance(name, all), 0) << name;
  all["mxfp4"] = false;
  EXPECT_NE(error("mxfp4", all).find("denies it"), std::string::npos) << error("mxfp4", all);
}

TEST_F(MlxModes, WhatDoesNotFitIsAnErrorThatNamesIt) {
  const auto expect = [&](const std::string& name, const nlohmann::json& said, const char* part) {
    EXPECT_NE(error(name, said).find(part), std::string::npos) << error(name, said);
  };
  const std::string name = "affine_4_32_bf16";
  expect(name, settings(64, 4), "\"affine_4_32_bf16.scales\" of BF16 [3, 4] must be of");
  expect(name, settings(32, 8), "must be of F32, F16 or BF16 [3, 2]");
  expect(name, settings(32, 3), "not whole groups");
  expect(name, settings(32, 7), "\"bits\" that affine does not have");
  expect(name, settings(0, 4), "\"group_size\"");
  expect(name, settings(32, 4, "int4"), "\"int4\", which is not known");
  expect(name, settings(32, 4, "mxfp4"), "biases\" of BF16 [3, 4] has no place in it");
  expect("mxfp4", settings(32, 4), "\"mxfp4.biases\" is missing");
  expect("mxfp4", settings(32, 8, "mxfp4"), "\"bits\" that mxfp4 does not have");
  expect(name, nlohmann::json::object(), "does not give its \"group_size\" and \"bits\"");
  expect(name, {{"group_size", "32"}, {"bits", 4}}, "\"group_size\" that is not 1 or more");
  expect(name, {{"group_size", 32}, {"bits", 4}, {"mode", 3}}, "\"mode\" that is not text");
}

// A file of one packed matrix and whatever lies beside it.
class MlxFile : public ::testing::Test {
 protected:
  Result<WeightPtr> take(const std::string& header, std::size_t bytes, const Shape& shape) const {
    const auto path =
        folder_.write("m.safetensors", test::safetensors_bytes(header, std::string(bytes, '\x11')));
    WeightMap map(open_safetensors(path).value(), {},
                  R"({"group_size": 32, "bits": 4, "mode": "affine"})");
    auto weight = map.take("a.weight", shape);
    EXPECT_TRUE(!weight.ok() || map.finish().ok());
    return weight;
  }

  test::TemporaryFolder folder_;
};

TEST_F(MlxFile, PartsAreClaimedWithTheMatrixAndMissedByName) {
  const std::string weight = R"("a.weight":{"dtype":"U32","shape":[1,4],"data_offsets":[0,16]})";
  const std::string scales = R"(,"a.scales":{"dtype":"F16","shape":[1,1],"data_offsets":[16,18]})";
  const std::string biases = R"(,"a.biases":{"dtype":"F16","shape":[1,1],"data_offsets":[18,20]})";
  const auto whole = take("{" + weight + scales + biases + "}", 20, {1, 32});
  ASSERT_TRUE(whole.ok()) << whole.error().message;
  EXPECT_EQ(whole.value()->format(), "MLX affine, 4 bits, groups of 32");
  EXPECT_EQ(whole.value()->stored_bytes(), 20U);

  const auto no_biases = take("{" + weight + scales + "}", 18, {1, 32});
  ASSERT_FALSE(no_biases.ok());
  EXPECT_NE(no_biases.error().message.find("\"a.biases\" is missing"), std::string::npos);
  const auto no_scales = take("{" + weight + "}", 16, {1, 32});
  ASSERT_FALSE(no_scales.ok());
  EXPECT_NE(no_scales.error().message.find("\"a.scales\" is missing"), std::string::npos);
}

TEST_F(MlxFile, EmptyAndImmenseShapesAreRefusedOrEmpty) {
  const auto empty = take(R"({"a.weight":{"dtype":"U32","shape":[0,4],"data_offsets":[0,0]},)"
                          R"("a.scales":{"dtype":"F16","shape":[0,1],"data_offsets":[0,0]},)"
                          R"("a.biases":{"dtype":"F16","shape":[0,1],"data_offsets":[0,0]}})",
                          0, {0, 32});
  EXPECT_TRUE(empty.ok());
  const auto immense =
      take(R"({"a.weight":{"dtype":"U32","shape":[0,1152921504606846976],"data_offsets":[0,0]},)"
           R"("a.scales":{"dtype":"F16","shape":[0,1],"data_offsets":[0,0]},)"
           R"("a.biases":{"dtype":"F16","shape":[0,1],"data_offsets":[0,0]}})",
           0, {0, 32});
  EXPECT_FALSE(immense.ok());
}

// Codes of each width, the least and the greatest among them, as integers with a scale and an offset for each 16.
TEST(MlxForms, IntegersAreTheDecodedRows) {
  for (const std::int64_t bits : {1, 2, 3, 4, 5, 6, 8}) {
    std::vector<std::uint32_t> words(static_cast<std::size_t>(2 * bits));
    for (std::size_t i = 0; i < words.size(); ++i)
      words[i] = i == 0 ? 0xffffffffU : i == 1 ? 0U : static_cast<std::uint32_t>(i * 0x9E3779B9U);
    test::FormFile file;
    file.add("a.weight", "U32", "[1," + std::to_string(2 * bits) + "]", words);
    file.add("a.scales", "F32", "[1,2]", std::vector<float>{0.5F, 0.25F});
    file.add("a.biases", "F32", "[1,2]", std::vector<float>{-1.5F, 3.0F});
    WeightMap map = file.map({}, R"({"group_size":32,"bits":)" + std::to_string(bits) + "}");
    const auto weight = map.take("a.weight", {1, 64});
    ASSERT_TRUE(weight.ok()) << weight.error().message;
    ASSERT_TRUE(weight.value()->has_integers());
    const std::vector<double> row = test::FormFile::values_of(*weight.value());
    std::vector<std::int8_t> codes(64);
    std::vector<float> scales(4);
    std::vector<float> offsets(4);
    weight.value()->read_integers(0, codes, scales, offsets);
    for (std::size_t i = 0; i < row.size(); ++i)
      EXPECT_EQ(scales[i / 16] * static_cast<float>(codes[i]) + offsets[i / 16], row[i]) << bits << " bits, element " << i;
  }
}

}  // namespace
}  // namespace plumb
