// Products of odd shapes in every stored form on every instruction set, against double arithmetic on the decoded weights, and
// the same bits for every number of tokens.
#include "cpu/multiply.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/executor.h"
#include "cpu/isa.h"
#include "cpu/weights_test_support.h"

namespace plumb::cpu {
namespace {

constexpr ScaledForm kMx = {ScaledCodes::kE2M1, DType::kF8E8M0, 32};
constexpr ScaledForm kNv = {ScaledCodes::kE2M1, DType::kF8E4M3, 16};

struct Case {
  DType dtype;
  std::int64_t rows;
  std::int64_t columns;
  std::optional<ScaledForm> scaled = std::nullopt;
};

WeightPtr weight_of(const Case& of) {
  if (of.scaled) return std::make_shared<MemoryScaled>(*of.scaled, of.rows, of.columns);
  return random_weight(of.dtype, of.rows, of.columns);
}

// Whole blocks; one row, a panel and one, the end of a chunk and beyond.
const Case kCases[] = {
    {DType::kF32, 1, 1},      {DType::kF32, 33, 257},   {DType::kF32, 70, 600},   {DType::kF16, 33, 100},
    {DType::kF16, 64, 513},   {DType::kF16, 40, 384},   {DType::kBF16, 40, 384},   {DType::kBF16, 31, 7},    {DType::kBF16, 65, 513},  {DType::kQ8_0, 33, 32},
    {DType::kQ8_0, 40, 288},  {DType::kQ4_0, 33, 96},   {DType::kQ4_0, 64, 544},  {DType::kQ4_K, 33, 256},
    {DType::kQ4_K, 40, 1024}, {DType::kQ6_K, 33, 256},  {DType::kQ6_K, 40, 768},  {DType::kQ5_K, 33, 256},
    {DType::kQ5_K, 40, 768},  {DType::kQ4_1, 33, 96},   {DType::kQ4_1, 64, 544},  {DType::kQ5_0, 33, 96},
    {DType::kQ5_0, 64, 544},  {DType::kQ5_1, 33, 96},   {DType::kQ5_1, 64, 544},  {DType::kQ3_K, 7, 256},
    {DType::kQ3_K, 40, 768},  {DType::kQ2_K, 33, 256},  {DType::kQ2_K, 40, 768},  {DType::kTQ2_0, 33, 256},
    {DType::kTQ2_0, 40, 768}, {DType::kMXFP4, 33, 96},  {DType::kMXFP4, 64, 544}, {DType::kNVFP4, 33, 64},
    {DType::kNVFP4, 64, 576}, {DType::kIQ4_NL, 33, 96}, {DType::kIQ4_NL, 64, 544}, {DType::kIQ4_XS, 33, 256},
    {DType::kIQ4_XS, 40, 768}, {DType::kIQ2_XS, 33, 512},  {DType::kIQ2_XS, 70, 256},
    {DType::kIQ2_XXS, 33, 512}, {DType::kIQ2_S, 33, 512}, {DType::kIQ3_XXS, 33, 512}, {DType::kIQ3_S, 33, 512},
    {DType::kIQ1_S, 33, 512}, {DType::kIQ1_M, 33, 512}, {DType::kTQ1_0, 33, 512},
    {DType::kMXFP4, 34, 96, kMx}, {DType::kMXFP4, 65, 544, kMx}, {DType::kNVFP4, 34, 96, kNv}, {DType::kNVFP4, 65, 544, kNv},
    {DType::kF8E4M3, 33, 7, ScaledForm{ScaledCodes::kE4M3, DType::kF32, 7}},
    {DType::kF8E4M3, 40, 300, ScaledForm{ScaledCodes::kE4M3, DType::kF32, 128}},
    {DType::kF8E4M3, 65, 641, ScaledForm{ScaledCodes::kE4M3, DType::kF8E8M0, 256}},
    {DType::kF8E4M3, 31, 320, ScaledForm{ScaledCodes::kE4M3, DType::kF32, 64}},  // decoded as they are used
    {DType::kF8E4M3, 31, 96, ScaledForm{ScaledCodes::kE4M3, DType::kF32, 32}},
};

class Multiply : public testing::TestWithParam<Case> {
 protected:
  static Matrix matrix_of(const WeightPtr& weight, Isa isa, bool exact) {
    return {weight, exact ? Activations::kExact : Activations::kShort, kernels_for(isa)};
  }
  struct How {
    int threads;
    std::int64_t groups = 1;
    bool lay_out = true;
  };
  std::vector<float> product(Matrix& matrix, Isa isa, bool exact, const std::vector<float>& x, std::int64_t tokens, const How& how) {
    double seconds = how.lay_out ? 1 : 0;
    ThreadPool pool(how.threads);
    BufferPool buffers;
    const Context context = {.kernels = &kernels_for(isa),
                             .pool = &pool,
                             .buffers = &buffers,
                             .segments = {},
                             .activations = exact ? Activations::kExact : Activations::kShort,
                             .tables = nullptr,
                             .same_rope = nullptr,
                             .observer = nullptr,
                             .packing_seconds = &seconds};
    std::vector<float> y(static_cast<std::size_t>(tokens * matrix.rows()));
    const Product product = {.matrix = &matrix,
                             .x = x.data(),
                             .x_stride = matrix.columns() * how.groups,
                             .tokens = tokens,
                             .bias = nullptr,
                             .y = y.data(),
                             .y_stride = matrix.rows(),
                             .groups = how.groups};
    multiply(context, std::span(&product, 1));
    return y;
  }
};

double distance(const std::vector<float>& values, const std::vector<double>& expected) {
  double error = 0;
  double norm = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    error += (values[i] - expected[i]) * (values[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  return std::sqrt(error / norm);
}

std::vector<double> exact_product(const Weight& weight, const std::vector<float>& x,
                                  std::int64_t tokens, std::int64_t groups = 1) {
  std::vector<double> y(static_cast<std::size_t>(tokens * weight.rows()));
  std::vector<double> row(static_cast<std::size_t>(weight.row_length()));
  for (std::int64_t r = 0; r < weight.rows(); ++r) {
    weight.read_row(r, row);
    const std::int64_t group = r / (weight.rows() / groups);
    for (std::int64_t t = 0; t < tokens; ++t) {
      double sum = 0;
      for (std::size_t k = 0; k < row.size(); ++k)
        sum += row[k] * x[static_cast<std::size_t>((t * groups + group) * weight.row_length()) + k];
      y[static_cast<std::size_t>(t * weight.rows() + r)] = sum;
    }
  }
  return y;
}

constexpr std::int64_t kTokens = 29;

TEST_P(Multiply, IsTheDecodedWeightsProduct) {
  const auto weight = weight_of(GetParam());
  const auto x = random_floats(kTokens * GetParam().columns, 11);
  const auto expected = exact_product(*weight, x, kTokens);
  for (const Isa isa : available_isas()) {
    Matrix exact = matrix_of(weight, isa, true);
    EXPECT_LE(distance(product(exact, isa, true, x, kTokens, {.threads = 2}), expected), 1e-6) << to_string(isa);
    // Codes of seven bits and a sign: half a step of 1 / 127 of the largest of 64, so about one in a hundred. Those of 16 bits: half a
    // step of 1 / 65500 of the length of 128.
    Matrix brief = matrix_of(weight, isa, false);
    EXPECT_LE(distance(product(brief, isa, false, x, kTokens, {.threads = 2}), expected), brief.int16() ? 1.5e-4 : 2e-2) << to_string(isa);
  }
}

TEST_P(Multiply, TokensAndThreadsChangeNoBit) {
  const auto weight = weight_of(GetParam());
  const auto x = random_floats(kTokens * GetParam().columns, 13);
  for (const Isa isa : available_isas()) {
    for (const bool exact : {true, false}) {
      Matrix matrix = matrix_of(weight, isa, exact);
      const auto whole = product(matrix, isa, exact, x, kTokens, {.threads = 2});
      for (std::int64_t first = 0; first < kTokens;) {
        const std::int64_t tokens = std::min<std::int64_t>(first % 4 + 1, kTokens - first);
        const std::vector<float> part(x.begin() + first * GetParam().columns,
                                      x.begin() + (first + tokens) * GetParam().columns);
        const auto y = product(matrix, isa, exact, part, tokens, {.threads = 1});
        ASSERT_TRUE(std::equal(y.begin(), y.end(), whole.begin() + first * GetParam().rows))
            << to_string(isa) << ", tokens " << first << " to " << first + tokens;
        first += tokens;
      }
    }
  }
}

TEST_P(Multiply, APanelThatIsLaidOutForOneProductHasTheSameBits) {
  const auto weight = weight_of(GetParam());
  const auto x = random_floats(kTokens * GetParam().columns, 19);
  for (const Isa isa : available_isas()) {
    for (const bool exact : {true, false}) {
      Matrix matrix = matrix_of(weight, isa, exact);
      const auto before = product(matrix, isa, exact, x, kTokens, {.threads = 2, .lay_out = false});
      EXPECT_EQ(matrix.unpacked(), matrix.packed_bytes() > 0);
      EXPECT_EQ(product(matrix, isa, exact, x, kTokens, {.threads = 2}), before) << to_string(isa);
      EXPECT_FALSE(matrix.unpacked());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, Multiply, testing::ValuesIn(kCases), [](const auto& entry) {
  return std::string(entry.param.scaled ? "scaled_" : "") + std::string(to_string(entry.param.dtype)) + "_" + std::to_string(entry.param.rows) + "_" +
         std::to_string(entry.param.columns);
});

class Grouped : public Multiply {};

TEST_P(Grouped, EachGroupReadsItsOwnPart) {
  constexpr std::int64_t kGroups = 3;
  const auto weight = random_weight(GetParam().dtype, GetParam().rows * kGroups, GetParam().columns);
  const auto x = random_floats(kTokens * kGroups * GetParam().columns, 17);
  const auto expected = exact_product(*weight, x, kTokens, kGroups);
  for (const Isa isa : available_isas()) {
    Matrix exact = matrix_of(weight, isa, true);
    EXPECT_LE(distance(product(exact, isa, true, x, kTokens, {.threads = 2, .groups = kGroups}), expected), 1e-6);
    Matrix brief = matrix_of(weight, isa, false);
    EXPECT_LE(distance(product(brief, isa, false, x, kTokens, {.threads = 2, .groups = kGroups}), expected), brief.int16() ? 1.5e-4 : 2e-2);
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, Grouped,
                         testing::Values(Case{DType::kF32, 24, 40}, Case{DType::kQ8_0, 20, 64},
                                         Case{DType::kBF16, 32, 96}));

// An infinity or what is no number must reach the logits, where it ends the sequence with an error.
TEST(MultiplyEdges, WhatIsNotFiniteStaysSo) {
  constexpr std::int64_t kColumns = 512;
  std::vector<std::pair<float, std::size_t>> planted;
  for (const std::size_t at : {0U, 63U, 300U, 511U}) {
    planted.emplace_back(std::numeric_limits<float>::infinity(), at);
    planted.emplace_back(std::numeric_limits<float>::quiet_NaN(), at);
  }
  const auto expect_not_finite = [&](DType dtype, Isa isa, Activations activations, float bad, std::size_t at) {
    std::vector<float> x = random_floats(kColumns, 3);
    x[at] = bad;
    ThreadPool pool(1);
    BufferPool buffers;
    Matrix matrix(random_weight(dtype, 3, kColumns), activations, kernels_for(isa));
    const Context context = {.kernels = &kernels_for(isa), .pool = &pool, .buffers = &buffers, .segments = {},
                             .activations = activations, .tables = nullptr, .same_rope = nullptr};
    std::vector<float> y(3, 0.0F);
    const Product product = {.matrix = &matrix, .x = x.data(), .x_stride = kColumns, .tokens = 1,
                             .bias = nullptr, .y = y.data(), .y_stride = 3};
    multiply(context, std::span(&product, 1));
    for (const float value : y)
      EXPECT_FALSE(std::isfinite(value)) << to_string(dtype) << ", " << to_string(isa) << ", " << bad << " at " << at;
  };
  for (const DType dtype : {DType::kQ8_0, DType::kBF16, DType::kF16}) {
    for (const Isa isa : available_isas()) {
      for (const Activations activations : {Activations::kExact, Activations::kAuto, Activations::kShort}) {
        for (const auto& [bad, at] : planted)
          expect_not_finite(dtype, isa, activations, bad, at);
      }
    }
  }
}

// The edges of a byte: codes of -128 and activations of either sign, where products leave 16 bits.
TEST(MultiplyEdges, TheLargestCodesAreExact) {
  constexpr std::int64_t kColumns = 64;
  std::vector<std::byte> bytes;
  for (int block = 0; block < 2; ++block) {
    const std::uint16_t one = 0x3c00;
    bytes.push_back(static_cast<std::byte>(one & 0xff));
    bytes.push_back(static_cast<std::byte>(one >> 8));
    for (int i = 0; i < 32; ++i)
      bytes.push_back(static_cast<std::byte>(i % 3 == 0 ? 0x7f : 0x80));
  }
  const auto weight = std::make_shared<MemoryWeight>(DType::kQ8_0, Shape{1, kColumns}, bytes);
  std::vector<double> row(kColumns);
  weight->read_row(0, row);
  std::vector<float> x(kColumns);
  double expected = 0;
  for (std::size_t k = 0; k < x.size(); ++k) {
    x[k] = k % 5 == 0 ? 127.0F : -127.0F;
    expected += x[k] * row[k];
  }
  for (const Isa isa : available_isas()) {
    ThreadPool pool(1);
    BufferPool buffers;
    Matrix matrix(weight, Activations::kShort, kernels_for(isa));
    const Context context = {.kernels = &kernels_for(isa), .pool = &pool, .buffers = &buffers, .segments = {},
                             .activations = Activations::kShort, .tables = nullptr, .same_rope = nullptr};
    float y = 0;
    const Product product = {.matrix = &matrix, .x = x.data(), .x_stride = kColumns, .tokens = 1,
                             .bias = nullptr, .y = &y, .y_stride = 1};
    multiply(context, std::span(&product, 1));
    EXPECT_EQ(y, static_cast<float>(expected)) << to_string(isa);
  }
}

}  // namespace
}  // namespace plumb::cpu
