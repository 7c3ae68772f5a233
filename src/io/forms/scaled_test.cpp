// Each form from bytes laid out by hand: the order of nibbles and fields, the direction of scales, which scale holds for which
// element, and what is refused.
#include <cmath>
#include <limits>

#include "io/forms/form_test_support.h"

namespace plumb {
namespace {

using Values = std::vector<double>;
using Bytes = std::vector<std::uint8_t>;

const Bytes kOneE4M3 = {0x38, 0x40};  // 1, 2

TEST(Fp8Form, BlocksAreCutAtTheEdgeAndScalesAreFactors) {
  for (const std::string suffix : {"weight_scale_inv", "scale", "weight_scale"}) {
    test::FormFile file;
    file.add("a.weight", "F8_E4M3", "[192,130]", Bytes(192 * 130, 0x38));
    file.add("a." + suffix, "F32", "[2,2]", std::vector<float>{2, 3, 5, 7});
    const Values values = file.values("a.weight", {192, 130});
    ASSERT_EQ(values.size(), 192U * 130U);
    const auto at = [&](std::size_t r, std::size_t c) { return values[r * 130 + c]; };
    EXPECT_EQ(at(0, 0), 2);
    EXPECT_EQ(at(127, 127), 2);  // 192 / 2 = 96 rows would have ended here
    EXPECT_EQ(at(127, 128), 3);
    EXPECT_EQ(at(128, 127), 5);
    EXPECT_EQ(at(191, 129), 7);
  }
}

TEST(Fp8Form, ScalesOfTensorRowsAndGroups) {
  const auto read = [](std::string_view dtype, std::string_view shape, const auto& scales) {
    test::FormFile file;
    file.add("a.weight", "F8_E4M3", "[2,2]", Bytes{0x38, 0x40, 0x38, 0xc0});  // 1 2, 1 -2
    file.add("a.weight_scale", dtype, shape, scales);
    return file.values("a.weight", {2, 2});
  };
  EXPECT_EQ(read("F32", "[]", std::vector<float>{3}), (Values{3, 6, 3, -6}));
  EXPECT_EQ(read("BF16", "[1]", std::vector<std::uint16_t>{0x4040}), (Values{3, 6, 3, -6}));
  EXPECT_EQ(read("F32", "[2,1]", std::vector<float>{3, 5}), (Values{3, 6, 5, -10}));
  EXPECT_EQ(read("F32", "[2,2]", std::vector<float>{3, 5, 7, 9}), (Values{3, 10, 7, -18}));
  EXPECT_EQ(read("F8_E8M0", "[2,1]", Bytes{128, 126}), (Values{2, 4, 0.5, -1}));
  EXPECT_EQ(read("U8", "[2,1]", Bytes{128, 126}), (Values{2, 4, 0.5, -1}));
}

TEST(Fp8Form, GridsThatDoNotFitAreRefused) {
  test::FormFile file;
  file.add("a.weight", "F8_E4M3", "[192,1]", Bytes(192, 0x38));
  file.add("a.weight_scale_inv", "F32", "[1,1]", std::vector<float>{2});
  file.add("b.weight", "F8_E4M3", "[2,1]", kOneE4M3);
  file.add("b.weight_scale", "I32", "[2,1]", std::vector<int>{1, 1});
  file.add("c.weight", "F8_E4M3", "[2,1]", kOneE4M3);
  file.add("d.experts", "F8_E4M3", "[1,2,1]", kOneE4M3);
  EXPECT_EQ(file.error("a.weight", {192, 1}),
            "the tensor \"a.weight_scale_inv\" of F32 [1, 1] does not have the [2, 1] blocks of "
            "128x128 of a weight of shape [192, 1]");
  EXPECT_EQ(file.error("b.weight", {2, 1}),
            "the tensor \"b.weight_scale\" of I32 [2, 1] is not a tensor of scales, which are F32, "
            "F16, BF16, F8_E4M3 or E8M0");
  EXPECT_NE(file.error("c.weight", {2, 1}), "");
  EXPECT_NE(file.error("d.experts", {1, 2, 1}), "");
}

// 16 bytes of which byte j holds the codes 2 (1) and 10 (-1), but for the first: 1 (0.5) and 7 (6).
Bytes e2m1_bytes(std::size_t size) {
  Bytes bytes(size, 0xa2);
  bytes[0] = 0x71;
  return bytes;
}

TEST(Mxfp4Form, LowNibbleFirstAndScalesOf32) {
  Bytes scales = {128, 126};  // 2, 0.5
  test::FormFile file;
  file.add("a.weight", "I8", "[1,32]", e2m1_bytes(32)).add("a.scale", "F8_E8M0", "[1,2]", scales);
  file.add("b.weight_packed", "U8", "[1,32]", e2m1_bytes(32));
  file.add("b.weight_scale", "U8", "[1,2]", scales);
  for (const std::string_view name : {"a.weight", "b.weight"}) {
    const Values values = file.values(name, {1, 64});
    ASSERT_EQ(values.size(), 64U) << name;
    EXPECT_EQ(Values(values.begin(), values.begin() + 4), (Values{1, 12, 2, -2})) << name;
    EXPECT_EQ(values[31], -2) << name;
    EXPECT_EQ(values[32], 0.5) << name;
  }
  WeightMap map = file.map();
  EXPECT_TRUE(map.take("a.weight", {1, 64}).ok() && map.take("b.weight", {1, 64}).ok());
  EXPECT_TRUE(map.finish().ok());
}

// What torch 2.13 says of float8_e8m0fnu, and transformers 5.x of gpt-oss's `_scales`.
TEST(Mxfp4Form, AScaleOf255IsNoNumberButInGptOss) {
  test::FormFile file;
  file.add("a.weight", "I8", "[1,16]", e2m1_bytes(16)).add("a.scale", "F8_E8M0", "[1,1]", Bytes{255});
  for (const double value : file.values("a.weight", {1, 32}))
    EXPECT_TRUE(std::isnan(value));
  Bytes codes = {0x10, 0x32, 0x54, 0x76, 0x98, 0xba};
  codes.resize(16);
  file.add("b_blocks", "U8", "[1,1,1,16]", codes).add("b_scales", "U8", "[1,1,1]", Bytes{255});
  const Values values = file.values("b_blocks", {1, 1, 32});
  ASSERT_EQ(values.size(), 32U);
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(Values(values.begin(), values.begin() + 12),
            (Values{0, 0x1p127, kInfinity, kInfinity, kInfinity, kInfinity, kInfinity, kInfinity, 0, -0x1p127, -kInfinity, -kInfinity}));
}

// Experts [2, 4 rows, 1 block]: byte 0 of each row tells expert and row apart.
TEST(Mxfp4Form, SlicesAndAlternatingRowsOfExperts) {
  Bytes blocks;
  for (std::uint8_t row = 0; row < 8; ++row) {
    blocks.push_back(row);
    blocks.insert(blocks.end(), 15, 0);
  }
  test::FormFile file;
  file.add("gate_up_blocks", "U8", "[2,4,1,16]", blocks);
  file.add("gate_up_scales", "U8", "[2,4,1]", Bytes{127, 127, 127, 127, 127, 127, 127, 128});
  using Form = NameRule::Form;
  const auto first_of = [&](int first) {
    const Values values = file.values("e1.half", {2, 32},
                                      {.rules = {{"e{e}.half",
                                                  "gate_up_blocks",
                                                  {Form::kExpertSlice, Form::kInterleavedRows},
                                                  first,
                                                  2}},
                                       .ignored = {}});
    return values.size() == 64 ? Values{values[0], values[32]} : Values{};
  };
  EXPECT_EQ(first_of(0), (Values{2, 4}));   // codes 4 and 6
  EXPECT_EQ(first_of(1), (Values{3, 12}));  // codes 5 and 7, the last scaled by 2
}

TEST(Nvfp4Form, OneGlobalScaleMultipliesAndTheOtherDivides) {
  const Bytes scales = {0x40, 0x38};  // 2, 1
  test::FormFile file;
  file.add("a.weight", "U8", "[1,16]", e2m1_bytes(16))
      .add("a.weight_scale", "F8_E4M3", "[1,2]", scales);
  file.add("a.weight_scale_2", "F32", "[]", std::vector<float>{4});
  file.add("b.weight_packed", "U8", "[1,16]", e2m1_bytes(16));
  file.add("b.weight_scale", "F8_E4M3", "[1,2]", scales);
  file.add("b.weight_global_scale", "F32", "[1]", std::vector<float>{4});
  const Values a = file.values("a.weight", {1, 32});
  const Values b = file.values("b.weight", {1, 32});
  ASSERT_EQ(a.size() + b.size(), 64U);
  EXPECT_EQ((Values{a[0], a[1], a[2], a[3], a[16]}), (Values{4, 48, 8, -8, 4}));
  EXPECT_EQ((Values{b[0], b[1], b[2], b[3], b[16]}), (Values{0.25, 3, 0.5, -0.5, 0.25}));
}

TEST(Nvfp4Form, MissingScalesAreNamed) {
  test::FormFile file;
  file.add("a.weight", "U8", "[1,8]", Bytes(8)).add("a.weight_scale", "F8_E4M3", "[1,1]", Bytes(1));
  file.add("b.weight_packed", "U8", "[1,8]", Bytes(8));
  file.add("b.weight_scale", "F8_E4M3", "[1,1]", Bytes(1));
  file.add("c.weight_packed", "U8", "[1,16]", Bytes(16));
  file.add("d.weight_packed", "U8", "[1,16]", Bytes(16))
      .add("d.weight_scale", "U8", "[1,2]", Bytes(2));
  file.add("e_blocks", "U8", "[1,1,1,16]", Bytes(16));
  EXPECT_EQ(file.error("a.weight", {1, 16}),
            "the tensor \"a.weight\" of U8 [1, 8] needs \"a.weight_scale_2\", which is missing");
  EXPECT_EQ(file.error("b.weight", {1, 16}),
            "the tensor \"b.weight_packed\" of U8 [1, 8] needs \"b.weight_global_scale\", which is "
            "missing");
  EXPECT_EQ(
      file.error("c.weight", {1, 32}),
      "the tensor \"c.weight_packed\" of U8 [1, 16] needs \"c.weight_scale\", which is missing");
  EXPECT_EQ(file.error("d.weight", {1, 32}),
            "the tensor \"d.weight_scale\" of U8 [1, 2] does not fit a weight of shape [1, 32]");
  EXPECT_EQ(file.error("e_blocks", {1, 1, 32}),
            "the tensor \"e_blocks\" of U8 [1, 1, 1, 16] needs \"e_scales\", which is missing");
}

TEST(IntegerForm, EightBitsByRowAndWithZeroPoints) {
  test::FormFile file;
  file.add("a.weight", "I8", "[2,2]", Bytes{1, 0xff, 100, 0x80});  // 1 -1, 100 -128
  file.add("a.weight_scale", "F32", "[2,1]", std::vector<float>{2, 0.5});
  EXPECT_EQ(file.values("a.weight", {2, 2}), (Values{2, -2, 50, -64}));
  file.add("a.weight_zero_point", "I8", "[2,1]", Bytes{3, 0xfc});  // 3, -4
  EXPECT_EQ(file.values("a.weight", {2, 2}), (Values{-4, -8, 52, -62}));
}

// Row 0 holds 0 to 7 less 8, row 1 as many more; 9 columns leave a word of one field.
TEST(IntegerForm, PackedFieldsStartAtTheLeastBitsAndAreOffset) {
  const std::vector<std::uint32_t> words = {0x76543210, 0x00000008, 0xfedcba98, 0x0000000f};
  test::FormFile file;
  file.add("a.weight_packed", "I32", "[2,2]", words);
  file.add("a.weight_shape", "I64", "[2]", std::vector<std::int64_t>{2, 9});
  file.add("a.weight_scale", "F32", "[2,3]", std::vector<float>{1, 1, 2, 1, 1, 0.5});
  EXPECT_EQ(file.values("a.weight", {2, 9}),
            (Values{-8, -7, -6, -5, -4, -3, -4, -2, 0, 0, 1, 2, 3, 4, 5, 3, 3.5, 3.5}));
  // Zero points lie along the rows of a word: row 0 has -8 (stored 0), row 1 has 7 (stored 15).
  file.add("a.weight_zero_point", "I32", "[1,3]", std::vector<std::uint32_t>{0xf0, 0xf0, 0xf8});
  EXPECT_EQ(file.values("a.weight", {2, 9}),
            (Values{0, 1, 2, 3, 4, 5, -4, -2, 0, -7, -6, -5, -4, -3, -2, -0.5, 0, 0}));
}

TEST(IntegerForm, PackedBytes) {
  test::FormFile file;
  file.add("a.weight_packed", "I32", "[1,1]", std::vector<std::uint32_t>{0xff7f8081});
  file.add("a.weight_shape", "I64", "[2]", std::vector<std::int64_t>{1, 4});
  file.add("a.weight_scale", "F32", "[1,1]", std::vector<float>{1});
  // One word holds 4 fields of 8 bits, and might hold 4 of 4: it does not say.
  EXPECT_NE(file.error("a.weight", {1, 4}), "");
  test::FormFile longer;
  longer.add("a.weight_packed", "I32", "[1,2]", std::vector<std::uint32_t>{0xff7f8081, 0x80});
  longer.add("a.weight_shape", "I64", "[2]", std::vector<std::int64_t>{1, 5});
  longer.add("a.weight_scale", "F32", "[1,1]", std::vector<float>{1});
  EXPECT_EQ(longer.values("a.weight", {1, 5}), (Values{1, 0, -1, 127, 0}));
}

// The words' shape alone would pass for fields of four bits.
TEST(IntegerForm, OtherWidthsAndRotatedActivationsOfTheSettingsAreRefused) {
  test::FormFile file;
  file.add("a.weight_packed", "I32", "[2,2]", std::vector<std::uint32_t>(4));
  file.add("a.weight_shape", "I64", "[2]", std::vector<std::int64_t>{2, 16});
  file.add("a.weight_scale", "F32", "[2,1]", std::vector<float>(2));
  const auto taken = [&](std::string_view settings) { return file.map({}, settings).take("a.weight", {2, 16}).ok(); };
  for (const std::string bits : {"4", "8"})
    EXPECT_TRUE(taken(R"({"config_groups":{"group_0":{"weights":{"num_bits":)" + bits + "}}}}")) << bits;
  EXPECT_FALSE(taken(R"({"config_groups":{"group_0":{"weights":{"num_bits":3}}}})"));
  EXPECT_TRUE(taken(R"({"transform_config":{"config_groups":{}}})"));
  EXPECT_FALSE(taken(R"({"transform_config":{"config_groups":{"u":{"type":"hadamard"}}}})"));
}

TEST(IntegerForm, WhatDoesNotFitIsRefused) {
  const auto error = [](std::int64_t rows, std::int64_t columns, std::string_view grid,
                        std::size_t scales) {
    test::FormFile file;
    file.add("a.weight_packed", "I32", "[2,2]", std::vector<std::uint32_t>(4));
    file.add("a.weight_shape", "I64", "[2]", std::vector<std::int64_t>{rows, columns});
    file.add("a.weight_scale", "F32", grid, std::vector<float>(scales));
    return file.error("a.weight", {2, 16});
  };
  EXPECT_EQ(error(2, 16, "[2,1]", 2), "");
  for (const std::int64_t columns :
       {INT64_MIN, std::int64_t{-1}, std::int64_t{0}, std::int64_t{17}, INT64_MAX}) {
    EXPECT_NE(error(2, columns, "[2,1]", 2), "") << columns;
  }
  EXPECT_NE(error(3, 16, "[2,1]", 2), "");
  EXPECT_NE(error(2, 16, "[2,3]", 6), "");
  EXPECT_NE(error(2, 16, "[2,0]", 0), "");
  EXPECT_NE(error(2, 16, "[1,2]", 2), "");
}

TEST(IntegerForms, AZeroPointOfTheWholeTensorIsThatOfEveryRow) {
  test::FormFile file;
  file.add("a.weight", "I8", "[3,2]", std::vector<std::int8_t>{1, 2, 3, 4, 5, 6});
  file.add("a.weight_scale", "F32", "[1]", std::vector<float>{0.5F});
  file.add("a.weight_zero_point", "I8", "[1]", std::vector<std::int8_t>{4});
  EXPECT_EQ(file.values("a.weight", {3, 2}), (std::vector<double>{-1.5, -1, -0.5, 0, 0.5, 1}));
}

TEST(IntegerForms, GroupsThatSixteenDoNotDivideAreNoIntegersWithAScaleForEachSixteen) {
  for (const std::int64_t groups : {1, 2, 4, 8}) {  // of 64, 32, 16 and 8 columns
    test::FormFile file;
    file.add("a.weight", "I8", "[1,64]", std::vector<std::int8_t>(64, 1));
    file.add("a.weight_scale", "F32", "[1," + std::to_string(groups) + "]", std::vector<float>(static_cast<std::size_t>(groups), 0.5F));
    const auto weight = file.map().take("a.weight", {1, 64});
    ASSERT_TRUE(weight.ok()) << weight.error().message;
    EXPECT_EQ(weight.value()->has_integers(), groups < 8) << groups;
  }
}

// What engines that multiply integers read of a weight is what its decoded rows are; scales are powers of two, so that nothing rounds.
TEST(IntegerForms, IntegersAreTheDecodedRows) {
  for (const bool zeros : {false, true}) {
    for (const int bits : {0, 4, 8}) {  // 0: bytes as they are
      test::FormFile file;
      const std::string words = "[2," + std::to_string(2 * bits) + "]";
      std::vector<std::uint32_t> packed(static_cast<std::size_t>(4 * bits));
      for (std::size_t i = 0; i < packed.size(); ++i)
        packed[i] = static_cast<std::uint32_t>((i + 1) * 0x9E3779B9U);
      if (bits == 0) {
        Bytes bytes(128);
        for (std::size_t i = 0; i < bytes.size(); ++i)
          bytes[i] = static_cast<std::uint8_t>(i * 37 + 128);
        file.add("a.weight", "I8", "[2,64]", bytes);
        if (zeros) file.add("a.weight_zero_point", "I8", "[2,2]", Bytes{3, 0xfc, 0x80, 0x7f});
      } else {
        file.add("a.weight_packed", "I32", words, packed);
        file.add("a.weight_shape", "I64", "[2]", std::vector<std::int64_t>{2, 64});
        if (zeros) file.add("a.weight_zero_point", "I32", "[1,2]", std::vector<std::uint32_t>{0xf1f3, 0x7b07});
      }
      file.add("a.weight_scale", "F32", "[2,2]", std::vector<float>{0.5F, 4, 0.25F, 2});
      WeightMap map = file.map();
      const auto weight = map.take("a.weight", {2, 64});
      ASSERT_TRUE(weight.ok()) << weight.error().message;
      ASSERT_TRUE(weight.value()->has_integers());
      for (std::int64_t r = 0; r < 2; ++r) {
        std::vector<double> row(64);
        std::vector<std::int8_t> codes(64);
        std::vector<float> scales(4);
        std::vector<float> offsets(4);
        weight.value()->read_row(r, row);
        weight.value()->read_integers(r, codes, scales, offsets);
        for (std::size_t i = 0; i < row.size(); ++i)
          EXPECT_EQ(scales[i / 16] * static_cast<float>(codes[i]) + offsets[i / 16], row[i]) << bits << " bits, row " << r << ", element " << i;
      }
    }
  }
}

}  // namespace
}  // namespace plumb
