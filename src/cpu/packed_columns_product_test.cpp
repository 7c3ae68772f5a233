// Products with what GPTQ and AWQ packed, on every instruction set, against double arithmetic on the decoded rows: as integers where each 16
// inputs share a scale, as floats where inputs were sorted first.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "cpu/isa.h"
#include "cpu/multiply.h"
#include "io/forms/form_test_support.h"

namespace plumb::cpu {
namespace {

struct Packed {
  const char* name;
  bool is_awq;
  std::int64_t bits;
  std::int64_t outputs;
  std::int64_t inputs;
  std::int64_t group;
  bool sorted;  // by activation, before they were grouped
  bool integers;
};

std::string shape_text(std::int64_t rows, std::int64_t columns) {
  return "[" + std::to_string(rows) + "," + std::to_string(columns) + "]";
}

WeightPtr weight_of(const Packed& of) {
  std::mt19937 random(5);
  const auto words = [&](std::int64_t count) {
    std::vector<std::uint32_t> all(static_cast<std::size_t>(count));
    std::ranges::generate(all, [&] { return static_cast<std::uint32_t>(random()); });
    return all;
  };
  const std::int64_t fields = 32 / of.bits;
  const std::int64_t groups = (of.inputs + of.group - 1) / of.group;
  const std::int64_t rows = of.is_awq ? of.inputs : of.inputs / fields;
  const std::int64_t columns = of.is_awq ? of.outputs / fields : of.outputs;
  std::vector<std::uint16_t> scales(static_cast<std::size_t>(groups * of.outputs));
  std::ranges::generate(scales, [&] { return static_cast<std::uint16_t>(0x2000U + random() % 0x1000U); });
  std::vector<std::int32_t> group_of(static_cast<std::size_t>(of.inputs));
  for (std::size_t i = 0; i < group_of.size(); ++i)
    group_of[i] = static_cast<std::int32_t>(static_cast<std::int64_t>(i) / of.group);
  if (of.sorted) std::shuffle(group_of.begin(), group_of.end(), random);
  test::FormFile file;
  file.add("a.qweight", "I32", shape_text(rows, columns), words(rows * columns));
  file.add("a.qzeros", "I32", shape_text(groups, of.outputs / fields), words(groups * of.outputs / fields));
  file.add("a.scales", "F16", shape_text(groups, of.outputs), scales);
  if (!of.is_awq) file.add("a.g_idx", "I32", "[" + std::to_string(of.inputs) + "]", group_of);
  const std::string settings =
      R"({"quant_method":")" + std::string(of.is_awq ? "awq" : "gptq") + R"(","group_size":)" + std::to_string(of.group) + "}";
  auto weight = file.map({}, settings).take("a.weight", {of.outputs, of.inputs});
  EXPECT_TRUE(weight.ok()) << (weight.ok() ? "" : weight.error().message);
  return weight.ok() ? weight.value() : nullptr;
}

class PackedColumnsProduct : public testing::TestWithParam<Packed> {};

TEST_P(PackedColumnsProduct, IsTheDecodedWeights) {
  const Packed& of = GetParam();
  const WeightPtr weight = weight_of(of);
  ASSERT_NE(weight, nullptr);
  EXPECT_EQ(weight->has_integers(), of.integers);
  constexpr std::int64_t kTokens = 5;
  std::vector<float> x(static_cast<std::size_t>(kTokens * of.inputs));
  std::mt19937 random(6);
  std::ranges::generate(x, [&] { return std::normal_distribution<float>()(random); });
  std::vector<double> expected(static_cast<std::size_t>(kTokens * of.outputs));
  std::vector<double> row(static_cast<std::size_t>(of.inputs));
  for (std::int64_t r = 0; r < of.outputs; ++r) {
    weight->read_row(r, row);
    for (std::int64_t t = 0; t < kTokens; ++t)
      expected[static_cast<std::size_t>(t * of.outputs + r)] = std::inner_product(row.begin(), row.end(), x.begin() + t * of.inputs, 0.0);
  }
  for (const Isa isa : available_isas()) {
    ThreadPool pool(2);
    BufferPool buffers;
    Matrix matrix(weight, Activations::kAuto, kernels_for(isa));
    EXPECT_EQ(matrix.form().has_value(), of.integers);
    const Context context = {.kernels = &kernels_for(isa), .pool = &pool, .buffers = &buffers, .segments = {},
                             .activations = Activations::kAuto, .tables = nullptr, .same_rope = nullptr};
    std::vector<float> y(expected.size());
    const Product product = {.matrix = &matrix, .x = x.data(), .x_stride = of.inputs, .tokens = kTokens,
                             .bias = nullptr, .y = y.data(), .y_stride = of.outputs};
    multiply(context, std::span(&product, 1));
    double error = 0;
    double norm = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
      error += (y[i] - expected[i]) * (y[i] - expected[i]);
      norm += expected[i] * expected[i];
    }
    EXPECT_LE(std::sqrt(error / norm), 1e-6) << to_string(isa);
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, PackedColumnsProduct,
                         testing::Values(Packed{"gptq_2", false, 2, 48, 352, 32, false, true},
                                         Packed{"gptq_4", false, 4, 40, 288, 128, false, true},
                                         Packed{"gptq_4_one_group", false, 4, 8, 32, 32, false, true},
                                         Packed{"gptq_8", false, 8, 36, 96, 16, false, true},
                                         Packed{"gptq_4_sorted", false, 4, 40, 288, 32, true, false},
                                         Packed{"gptq_4_groups_of_8", false, 4, 8, 64, 8, false, false},
                                         Packed{"gptq_8_of_no_whole_32", false, 8, 36, 100, 20, false, false},
                                         Packed{"gptq_8_of_48", false, 8, 36, 48, 16, false, false},
                                         Packed{"awq", true, 4, 72, 544, 128, false, true},
                                         Packed{"awq_small", true, 4, 8, 32, 32, false, true}),
                         [](const auto& packed) { return std::string(packed.param.name); });

}  // namespace
}  // namespace plumb::cpu
