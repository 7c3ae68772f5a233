// Every code of the small formats against PyTorch's values (tests/data/elements).
#include "io/decode.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/float_bits.h"
#include "io/io_test_support.h"
#include "io/tensor_source.h"

namespace plumb {
namespace {

class Elements : public ::testing::Test {
 protected:
  void SetUp() override {
    auto opened = open_safetensors(test::data_path("elements/elements.safetensors"));
    ASSERT_TRUE(opened.ok()) << opened.error().message;
    source_ = std::move(opened).value();
  }

  std::vector<double> values(std::string_view name) const {
    const StoredTensor* tensor = source_->find(name);
    EXPECT_NE(tensor, nullptr) << name;
    std::vector<double> out(static_cast<std::size_t>(*element_count(tensor->shape)));
    decode(tensor->dtype, tensor->bytes, out);
    return out;
  }

  // All codes of a format, in order, decode to the values of `name`: equal bits, NaN where the
  // reference has NaN.
  template <class Code>
  void expect_codes(DType dtype, std::string_view name) const {
    const std::vector<double> expected = values(name);
    std::vector<Code> codes(expected.size());
    std::iota(codes.begin(), codes.end(), Code{0});
    std::vector<double> decoded(codes.size());
    decode(dtype, std::as_bytes(std::span(codes)), decoded);
    for (std::size_t i = 0; i < codes.size(); ++i) {
      if (std::isnan(expected[i])) {
        EXPECT_TRUE(std::isnan(decoded[i])) << name << " code " << i;
      } else {
        EXPECT_EQ(std::bit_cast<std::uint64_t>(decoded[i]),
                  std::bit_cast<std::uint64_t>(expected[i]))
            << name << " code " << i;
      }
    }
  }

  std::shared_ptr<const TensorSource> source_;
};

TEST_F(Elements, EveryCodeHasTheReferencesValue) {
  expect_codes<std::uint8_t>(DType::kF8E4M3, "f8_e4m3");
  expect_codes<std::uint8_t>(DType::kF8E5M2, "f8_e5m2");
  expect_codes<std::uint8_t>(DType::kF8E8M0, "f8_e8m0");
  expect_codes<std::uint16_t>(DType::kF16, "f16");
}

TEST_F(Elements, NarrowingRoundsAsTheReference) {
  const std::vector<double> from = values("round/values");
  const std::vector<double> half = values("round/f16");
  const std::vector<double> brain = values("round/bf16");
  for (std::size_t i = 0; i < from.size(); ++i) {
    const auto value = static_cast<float>(from[i]);
    if (std::isnan(value)) continue;
    EXPECT_EQ(float_to_half(value), static_cast<std::uint16_t>(half[i])) << value;
    EXPECT_EQ(float_to_bfloat16(value), static_cast<std::uint16_t>(brain[i])) << value;
  }
}

TEST(Decode, IntegersAndWideFloats) {
  const std::vector<std::int64_t> wide = {-5, std::int64_t{1} << 40};
  std::vector<double> out(2);
  decode(DType::kI64, std::as_bytes(std::span(wide)), out);
  EXPECT_EQ(out, (std::vector<double>{-5, 0x1p40}));
  const std::vector<std::int8_t> narrow = {-128, 127};
  decode(DType::kI8, std::as_bytes(std::span(narrow)), out);
  EXPECT_EQ(out, (std::vector<double>{-128, 127}));
  const std::vector<std::uint32_t> high = {0xffffffffU, 1};
  decode(DType::kU32, std::as_bytes(std::span(high)), out);
  EXPECT_EQ(out, (std::vector<double>{4294967295.0, 1}));
  const std::vector<double> doubles = {0.1, -0.0};
  decode(DType::kF64, std::as_bytes(std::span(doubles)), out);
  EXPECT_EQ(out[0], 0.1);
  EXPECT_TRUE(std::signbit(out[1]));
}

TEST(Decode, UnalignedBytesAreRead) {
  std::vector<std::byte> bytes(9, std::byte{0});
  bytes[3] = std::byte{0x80};
  bytes[4] = std::byte{0x3f};  // 1.0F from byte 1 on
  std::vector<double> out(2);
  decode(DType::kF32, std::span(bytes).subspan(1), out);
  EXPECT_EQ(out, (std::vector<double>{1, 0}));
}

TEST(Decode, SizesThatDoNotFitAreNothing) {
  EXPECT_EQ(stored_size(DType::kBF16, 3), 6U);
  EXPECT_FALSE(stored_size(DType::kF64, std::int64_t{1} << 61).has_value());
  EXPECT_FALSE(stored_size(DType::kF64, -1).has_value());
}

}  // namespace
}  // namespace plumb
