// GPTQ's and AWQ's layouts, packed here from their published descriptions.
#include "io/forms/packed_columns.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <random>

#include "io/io_test_support.h"
#include "io/weight_map.h"

namespace plumb {
namespace {

constexpr int kIn = 96;
constexpr int kOut = 16;
constexpr int kGroups = 6;
constexpr const char* kGptq = R"({"quant_method": "gptq", "group_size": 16, "bits": 4})";
constexpr const char* kGptq2 =
    R"({"quant_method": "gptq", "group_size": 16, "bits": 4, "checkpoint_format": "gptq_v2"})";
constexpr const char* kAwq = R"({"quant_method": "awq", "group_size": 16, "version": "gemm"})";

// Codes, zero points and scales of one matrix, and its packed tensors as they lie in a file.
class PackedColumnsTest : public ::testing::Test {
 protected:
  void draw(int bits) {
    std::mt19937 random(7);
    for (auto& column : codes_) {
      for (int& code : column)
        code = static_cast<int>(random() % (1U << bits));
    }
    for (int g = 0; g < kGroups; ++g) {
      for (int o = 0; o < kOut; ++o) {
        // 0 is left out: that GPTQ's first version cannot store it alone.
        zeros_[g][o] = 1 + static_cast<int>(random() % ((1U << bits) - 1U));
        scales_[g][o] = static_cast<float>(1 + random() % 100) / 64;
      }
    }
    for (int i = 0; i < kIn; ++i)
      group_of_[i] = i / 16;
  }

  static void append(std::string& bytes, std::uint32_t word) {
    bytes.append(reinterpret_cast<const char*>(&word), sizeof(word));
  }

  std::string gptq_codes(int bits) const {
    std::string bytes;
    for (int row = 0; row < kIn * bits / 32; ++row) {
      for (int o = 0; o < kOut; ++o) {
        std::uint32_t word = 0;
        for (int k = 0; k < 32 / bits; ++k)
          word |= static_cast<std::uint32_t>(codes_[row * (32 / bits) + k][o]) << (k * bits);
        append(bytes, word);
      }
    }
    return bytes;
  }

  std::string gptq_zeros(int bits, int less) const {
    std::string bytes;
    for (int g = 0; g < kGroups; ++g) {
      for (int word_index = 0; word_index < kOut * bits / 32; ++word_index) {
        std::uint32_t word = 0;
        for (int k = 0; k < 32 / bits; ++k) {
          const int zero = zeros_[g][word_index * (32 / bits) + k] - less;
          word |= static_cast<std::uint32_t>(zero) << (k * bits);
        }
        append(bytes, word);
      }
    }
    return bytes;
  }

  template <class Rows>
  static std::string awq(const Rows& rows) {
    constexpr std::array<int, 8> kOrder = {0, 2, 4, 6, 1, 3, 5, 7};
    std::string bytes;
    for (const auto& row : rows) {
      for (int first = 0; first < kOut; first += 8) {
        std::uint32_t word = 0;
        for (int k = 0; k < 8; ++k)
          word |= static_cast<std::uint32_t>(row[first + kOrder[k]]) << (4 * k);
        append(bytes, word);
      }
    }
    return bytes;
  }

  struct Part {
    std::string name;
    std::string dtype;
    std::vector<int> shape;
    std::string bytes;
  };

  Part scales() const {
    return {"a.scales",
            "F32",
            {kGroups, kOut},
            std::string(reinterpret_cast<const char*>(scales_.data()), sizeof(scales_))};
  }

  Part g_idx() const {
    return {"a.g_idx",
            "I32",
            {kIn},
            std::string(reinterpret_cast<const char*>(group_of_.data()), sizeof(group_of_))};
  }

  std::vector<Part> gptq(int bits, int less) const {
    return {{"a.qweight", "I32", {kIn * bits / 32, kOut}, gptq_codes(bits)},
            {"a.qzeros", "I32", {kGroups, kOut * bits / 32}, gptq_zeros(bits, less)},
            scales()};
  }

  std::vector<Part> awq() const {
    return {{"a.qweight", "I32", {kIn, kOut / 8}, awq(codes_)},
            {"a.qzeros", "I32", {kGroups, kOut / 8}, awq(zeros_)},
            scales()};
  }

  Result<WeightPtr> take(const std::vector<Part>& parts, const char* settings) const {
    nlohmann::json header;
    std::string data;
    for (const Part& part : parts) {
      header[part.name] = {{"dtype", part.dtype},
                           {"shape", part.shape},
                           {"data_offsets", {data.size(), data.size() + part.bytes.size()}}};
      data += part.bytes;
    }
    const auto path = folder_.write("m.safetensors", test::safetensors_bytes(header.dump(), data));
    const auto source = open_safetensors(path);
    if (!source.ok()) return source.error();
    WeightMap map(source.value(), {}, settings);
    auto weight = map.take("a.weight", {kOut, kIn});
    EXPECT_TRUE(!weight.ok() || map.finish().ok());
    return weight;
  }

  // `integers`: rows are whole numbers too, with a scale and an offset for each 16.
  void expect_values(const std::vector<Part>& parts, const char* settings, bool integers = true) const {
    const auto weight = take(parts, settings);
    ASSERT_TRUE(weight.ok()) << weight.error().message;
    EXPECT_EQ(weight.value()->has_integers(), integers);
    std::vector<double> row(kIn);
    std::vector<std::int8_t> codes(kIn);
    std::vector<float> scales(kIn / 16);
    std::vector<float> offsets(kIn / 16);
    for (int o = 0; o < kOut; ++o) {
      weight.value()->read_row(o, row);
      if (integers) weight.value()->read_integers(o, codes, scales, offsets);
      for (std::size_t i = 0; integers && i < kIn; ++i)
        ASSERT_EQ(scales[i / 16] * static_cast<float>(codes[i]) + offsets[i / 16], row[i]) << "out " << o << ", in " << i;
      for (int i = 0; i < kIn; ++i) {
        const int g = group_of_[i];
        ASSERT_EQ(row[static_cast<std::size_t>(i)],
                  scales_[g][o] * static_cast<float>(codes_[i][o] - zeros_[g][o]))
            << "out " << o << ", in " << i;
      }
    }
  }

  void expect_error(const std::vector<Part>& parts, const char* settings,
                    const char* message) const {
    const auto weight = take(parts, settings);
    const std::string said = weight.ok() ? "no error" : weight.error().message;
    EXPECT_NE(said.find(message), std::string::npos) << said;
  }

  std::array<std::array<int, kOut>, kIn> codes_{};
  std::array<std::array<int, kOut>, kGroups> zeros_{};
  std::array<std::array<float, kOut>, kGroups> scales_{};
  std::array<std::int32_t, kIn> group_of_{};
  test::TemporaryFolder folder_;
};

TEST_F(PackedColumnsTest, GptqOfBothConventionsAndAllBits) {
  for (const int bits : {2, 4, 8}) {
    SCOPED_TRACE(bits);
    draw(bits);
    expect_values(gptq(bits, 1), kGptq);
    expect_values(gptq(bits, 0), kGptq2);
  }
}

// Writers subtract 1 from each field of a word at once, so that a zero point of 0 borrows from the next.
TEST_F(PackedColumnsTest, GptqZeroPointsOfZeroAreRestored) {
  draw(4);
  zeros_[0][0] = zeros_[1][3] = zeros_[2][15] = 0;
  std::vector<Part> parts = gptq(4, 0);
  for (std::size_t at = 0; at < parts[1].bytes.size(); at += 4) {
    std::uint32_t word = 0;
    std::memcpy(&word, &parts[1].bytes[at], 4);
    word -= 0x11111111U;
    std::memcpy(&parts[1].bytes[at], &word, 4);
  }
  expect_values(parts, kGptq);
}

TEST_F(PackedColumnsTest, GptqInActivationOrder) {
  draw(4);
  std::vector<Part> in_order = gptq(4, 1);
  in_order.push_back(g_idx());
  expect_values(in_order, kGptq);
  std::shuffle(group_of_.begin(), group_of_.end(), std::mt19937(3));
  std::vector<Part> parts = gptq(4, 1);
  parts.push_back(g_idx());
  expect_values(parts, kGptq, false);
  expect_values(parts, R"({"quant_method": "gptq", "group_size": -1})", false);  // g_idx says it all

  group_of_[5] = kGroups;
  parts.back() = g_idx();
  expect_error(parts, kGptq, "names the group 6 of 6");
  group_of_[5] = -1;
  parts.back() = g_idx();
  expect_error(parts, kGptq, "names the group -1 of 6");
}

TEST_F(PackedColumnsTest, AwqsInterleavedNibbles) {
  draw(4);
  expect_values(awq(), kAwq);
  zeros_[1][4] = 0;
  expect_values(awq(), kAwq);
}

TEST_F(PackedColumnsTest, WhatDoesNotFitIsAnErrorThatNamesIt) {
  draw(4);
  const std::vector<Part> whole = gptq(4, 1);
  expect_error({whole[0], whole[2]}, kGptq, "\"a.qzeros\" is missing");
  expect_error({whole[0], whole[1]}, kGptq, "\"a.scales\" is missing");
  expect_error(whole, "", "quant_method \"\", not \"gptq\"");
  expect_error(whole, kAwq, "quant_method \"awq\", not \"gptq\"");
  expect_error(awq(), kGptq, "quant_method \"gptq\", not \"awq\"");
  expect_error(whole, R"({"quant_method": "gptq"})", "no \"group_size\"");
  expect_error(whole, R"({"quant_method": "gptq", "group_size": 32})",
               "a row for each group of 32");
  expect_error(whole, R"({"quant_method": "gptq", "checkpoint_format": "marlin"})", "\"marlin\"");
  expect_error(awq(), R"({"quant_method": "awq", "version": "gemv"})", "\"gemv\"");

  std::vector<Part> narrow = whole;
  narrow[1].shape = {kGroups * kOut / 8, 1};
  expect_error(narrow, kGptq, "does not fit \"a.qzeros\" of I32 [12, 1]");
  std::vector<Part> words = whole;
  words[0].dtype = "F32";
  expect_error(words, kGptq, "not a matrix of I32 words");
  std::vector<Part> empty = whole;
  empty[0] = {"a.qweight", "I32", {1 << 30, 0}, ""};
  empty[2] = {"a.scales", "F32", {kGroups, 0}, ""};
  expect_error(empty, kGptq, "which its words do not give");
}

}  // namespace
}  // namespace plumb
