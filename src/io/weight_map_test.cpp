// From stored names and forms to parameters.
#include "io/weight_map.h"

#include <gtest/gtest.h>

#include "io/io_test_support.h"
#include "io/name_pattern.h"

namespace plumb {
namespace {

using Form = NameRule::Form;

TEST(NamePattern, MatchesDigitsAndFillsThem) {
  const auto match =
      match_pattern("model.layers.{i}.experts.{e}.up", "model.layers.12.experts.3.up");
  ASSERT_TRUE(match.has_value());
  EXPECT_EQ(match->layer, "12");
  EXPECT_EQ(match->expert, "3");
  EXPECT_EQ(fill_pattern("blk.{i}.e{e}", *match), "blk.12.e3");
  EXPECT_FALSE(match_pattern("layers.{i}.up", "layers..up").has_value());
  EXPECT_FALSE(match_pattern("layers.{i}.up", "layers.1.up.weight").has_value());
  EXPECT_FALSE(match_pattern("layers.{i}.up", "layers.1").has_value());
  EXPECT_TRUE(match_pattern("visual.*", "visual.blocks.0").has_value());
  EXPECT_FALSE(match_pattern("visual.*", "vision").has_value());
}

// A file of one U8 tensor [2, 4, 3] whose element (e, r, c) is 100 e + 10 r + c, and a vector 0 1
// 2 3.
class Weights : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string data;
    for (const int e : {0, 1}) {
      for (const int r : {0, 1, 2, 3}) {
        for (const int c : {0, 1, 2})
          data += static_cast<char>(100 * e + 10 * r + c);
      }
    }
    data += std::string("\0\1\2\3", 4);
    path_ = folder_.write(
        "m.safetensors",
        test::safetensors_bytes(
            R"({"layers.0.stack":{"dtype":"U8","shape":[2,4,3],"data_offsets":[0,24]},)"
            R"("layers.0.bias":{"dtype":"U8","shape":[4],"data_offsets":[24,28]}})",
            data));
  }

  WeightMap map(std::vector<NameRule> rules, std::vector<std::string_view> ignored = {}) const {
    return WeightMap(open_safetensors(path_).value(), {std::move(rules), std::move(ignored)});
  }

  static std::vector<double> all_of(const Weight& weight) {
    std::vector<double> values;
    std::vector<double> row(static_cast<std::size_t>(weight.row_length()));
    for (std::int64_t i = 0; i < weight.rows(); ++i) {
      weight.read_row(i, row);
      values.insert(values.end(), row.begin(), row.end());
    }
    return values;
  }

  static std::vector<double> taken(WeightMap& map, std::string_view name, const Shape& shape) {
    const auto weight = map.take(name, shape);
    EXPECT_TRUE(weight.ok()) << (weight.ok() ? "" : weight.error().message);
    return weight.ok() ? all_of(*weight.value()) : std::vector<double>{};
  }

  std::string message(const std::string& rest) const { return path_.string() + ": " + rest; }

  test::TemporaryFolder folder_;
  std::filesystem::path path_;
};

TEST_F(Weights, CanonicalNameNeedsNoRule) {
  WeightMap weights = map({});
  EXPECT_EQ(taken(weights, "layers.0.bias", {4}), (std::vector<double>{0, 1, 2, 3}));
  EXPECT_TRUE(weights.has("layers.0.bias"));
  EXPECT_FALSE(weights.has("layers.1.bias"));
}

TEST_F(Weights, SlicesRangesInterleavesAndTransposes) {
  const std::string_view stack = "layers.{i}.stack";
  WeightMap weights = map({
      {"l{i}.e{e}.all", stack, {Form::kExpertSlice}, 0, 0},
      {"l{i}.e{e}.gate", stack, {Form::kExpertSlice, Form::kRowRange}, 0, 1},
      {"l{i}.e{e}.up", stack, {Form::kExpertSlice, Form::kRowRange}, 1, 1},
      {"l{i}.e{e}.odd", stack, {Form::kExpertSlice, Form::kInterleavedRows}, 1, 2},
      {"l{i}.e{e}.turned", stack, {Form::kExpertSlice, Form::kTransposed}, 0, 0},
      {"l{i}.e{e}.turned_odd",
       stack,
       {Form::kExpertSlice, Form::kTransposed, Form::kInterleavedRows},
       1,
       2},
      {"l{i}.odd_bias", "layers.{i}.bias", {Form::kInterleavedRows}, 1, 2},
      {"l{i}.late_bias", "layers.{i}.bias", {Form::kRowRange}, 1, 1},
      {"l{i}.e{e}.last", stack, {Form::kExpertSlice, Form::kRowRange}, -1, 1},
      {"l{i}.e{e}.last_but_one", stack, {Form::kExpertSlice, Form::kRowRange}, -2, 1},
  });
  EXPECT_EQ(taken(weights, "l0.e1.all", {4, 3}),
            (std::vector<double>{100, 101, 102, 110, 111, 112, 120, 121, 122, 130, 131, 132}));
  EXPECT_EQ(taken(weights, "l0.e0.gate", {2, 3}), (std::vector<double>{0, 1, 2, 10, 11, 12}));
  EXPECT_EQ(taken(weights, "l0.e0.up", {2, 3}), (std::vector<double>{20, 21, 22, 30, 31, 32}));
  EXPECT_EQ(taken(weights, "l0.e1.odd", {2, 3}),
            (std::vector<double>{110, 111, 112, 130, 131, 132}));
  EXPECT_EQ(taken(weights, "l0.e1.turned", {3, 4}),
            (std::vector<double>{100, 110, 120, 130, 101, 111, 121, 131, 102, 112, 122, 132}));
  EXPECT_EQ(taken(weights, "l0.e0.turned_odd", {1, 4}), (std::vector<double>{1, 11, 21, 31}));
  EXPECT_EQ(taken(weights, "l0.odd_bias", {2}), (std::vector<double>{1, 3}));
  EXPECT_EQ(taken(weights, "l0.late_bias", {2}), (std::vector<double>{2, 3}));
  EXPECT_EQ(taken(weights, "l0.e1.last", {1, 3}), (std::vector<double>{130, 131, 132}));
  EXPECT_EQ(taken(weights, "l0.e1.last_but_one", {1, 3}), (std::vector<double>{120, 121, 122}));
  EXPECT_FALSE(weights.take("l0.e0.last_but_one", {3, 3}).ok());
}

TEST_F(Weights, MissingAndMisshapenTensorsAreNamed) {
  WeightMap weights =
      map({{"l{i}.e{e}.all", "layers.{i}.stack", {Form::kExpertSlice}, 0, 0},
           {"l{i}.e{e}.up", "layers.{i}.stack", {Form::kExpertSlice, Form::kRowRange}, 2, 1},
           {"turned", "layers.0.stack", {Form::kTransposed}, 0, 0}});
  EXPECT_EQ(weights.take("layers.3.bias", {4}).error().message,
            message("the tensor \"layers.3.bias\" of shape [4] is missing"));
  EXPECT_EQ(weights.take("layers.0.bias", {5}).error().message,
            message("the tensor \"layers.0.bias\" has the shape [4], which does not give "
                    "\"layers.0.bias\" of shape [5]"));
  EXPECT_EQ(weights.take("l0.e2.all", {4, 3}).error().message,
            message("the tensor \"layers.0.stack\" has the shape [2, 4, 3], which does not give "
                    "\"l0.e2.all\" of shape [4, 3]"));
  for (const std::string_view name : {"l0.e0.up", "l0.e99999999999999999999.all", "turned"}) {
    EXPECT_FALSE(weights.take(name, {2, 3}).ok()) << name;
  }
}

TEST_F(Weights, WhatNobodyTookIsNamed) {
  WeightMap weights = map({{"l{i}.e{e}.all", "layers.{i}.stack", {Form::kExpertSlice}, 0, 0}});
  EXPECT_EQ(weights.finish().error().message,
            message("the model has no use for 2 tensors: \"layers.0.stack\" [2, 4, 3], "
                    "\"layers.0.bias\" [4]"));
  taken(weights, "layers.0.bias", {4});
  taken(weights, "l0.e0.all", {4, 3});
  taken(weights, "l0.e0.all", {4, 3});  // again: reads no more of the file
  EXPECT_EQ(weights.finish().error().message,
            message("the model has no use for the tensor \"layers.0.stack\" [2, 4, 3] (12 of 24 "
                    "elements read)"));
  taken(weights, "l0.e1.all", {4, 3});
  EXPECT_TRUE(weights.finish().ok());
  EXPECT_TRUE(map({}, {"layers.{i}.bias", "layers.0.st*"}).finish().ok());
}

// A checkpoint under a wrapper's prefix; `tail` is the shape of the convolution's last two axes.
std::string wrapped(std::string_view tail) {
  return test::safetensors_bytes(
      R"({"outer.layers.0.conv":{"dtype":"U8","shape":[2,)" + std::string(tail) +
          R"(],"data_offsets":[0,6]},"outer.layers.0.norm":{"dtype":"U8","shape":[2],"data_offsets":[6,8]},)"
          R"("outer.norm":{"dtype":"U8","shape":[2],"data_offsets":[8,10]}})",
      std::string("\0\1\2\3\4\5\3\4\5\6", 10));
}

std::vector<double> wrapped_values(std::string_view tail, std::string_view name,
                                   const Shape& shape) {
  constexpr std::string_view kMark = "layers.{i}.conv";
  const auto rule = [&](std::string_view of, Form form) {
    NameRule made{of, of, {form}, 0, 0};
    made.only_beside_column = kMark;
    return made;
  };
  const test::TemporaryFolder folder;
  WeightMap weights(
      open_safetensors(folder.write("m.safetensors", wrapped(tail))).value(),
      {.rules = {rule(kMark, Form::kReshaped), rule("layers.{i}.norm", Form::kLessOne),
                 rule("norm", Form::kLessOne)},
       .ignored = {},
       .prefixes = {{.canonical = "norm", .stored = "outer.norm"},
                    {.canonical = "layers.", .stored = "outer.layers."}}});
  const auto weight = weights.take(name, shape);
  if (!weight.ok()) return {};
  std::vector<double> values;
  std::vector<double> row(static_cast<std::size_t>(weight.value()->row_length()));
  for (std::int64_t i = 0; i < weight.value()->rows(); ++i) {
    weight.value()->read_row(i, row);
    values.insert(values.end(), row.begin(), row.end());
  }
  return values;
}

TEST(WrappedWeights, AMarkDecidesAboutTheWholeFile) {
  using Values = std::vector<double>;
  const Values conv = {0, 1, 2, 3, 4, 5};
  EXPECT_EQ(wrapped_values("1,3", "layers.0.conv", {2, 1, 3}), conv);
  EXPECT_EQ(wrapped_values("3,1", "layers.0.conv", {2, 1, 3}), conv);
  EXPECT_EQ(wrapped_values("3,1", "layers.0.conv", {2, 1, 4}), Values());
  EXPECT_EQ(wrapped_values("1,3", "layers.0.norm", {2}), (Values{3, 4}));
  EXPECT_EQ(wrapped_values("3,1", "layers.0.norm", {2}), (Values{2, 3}));
  EXPECT_EQ(wrapped_values("1,3", "norm", {2}), (Values{5, 6}));
  EXPECT_EQ(wrapped_values("3,1", "norm", {2}), (Values{4, 5}));
}

}  // namespace
}  // namespace plumb
