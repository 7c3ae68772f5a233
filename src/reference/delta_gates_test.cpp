// The stages around the gated delta rule, each against numbers worked out by hand or by the formula.
#include <gtest/gtest.h>

#include <cmath>

#include "reference/stage.h"
#include "reference/test_weight.h"

namespace plumb {
namespace {

using test::TestWeight;
using Values = std::vector<double>;

Tensor tensor(Shape shape, Values values) {
  Tensor x(std::move(shape));
  x.data = std::move(values);
  return x;
}

Tensor run(const Operation& operation, const std::vector<Tensor>& inputs,
           const std::vector<TestWeight>& weights, StateValue* state, Precision precision) {
  const Stage stage{.name = "stage",
                    .layer = 0,
                    .operation = operation,
                    .inputs = {},
                    .params = {},
                    .states = {},
                    .outputs = {}};
  StageOperands operands;
  for (const Tensor& x : inputs)
    operands.inputs.push_back(&x);
  for (const TestWeight& weight : weights)
    operands.weights.push_back(&weight);
  if (state != nullptr) operands.states = {state};
  return run_stage(stage, operands,
                   {.numerics = Numerics(precision),
                    .pool = nullptr,
                    .known_length = 1,
                    .all_outputs = false})
      .back();
}

constexpr L2Norm kUnit = {
    .eps = 1e-6, .eps_place = L2Eps::kAddToSum, .scale = 1, .precision = WeightPrecision::kFloat32};

// P19. A short vector: [3e-3, 4e-3] has the squared length 25e-6.
TEST(L2Norm, EpsJoinsTheSumOfSquares) {
  const Tensor x = tensor({1, 2}, {3e-3, 4e-3});
  const auto first = [&](L2Eps place) {
    L2Norm norm = kUnit;
    norm.eps_place = place;
    return run(norm, {x}, {}, nullptr, Precision::kFp64).data[0];
  };
  EXPECT_DOUBLE_EQ(first(L2Eps::kAddToSum), 3e-3 / std::sqrt(26e-6));
  EXPECT_DOUBLE_EQ(first(L2Eps::kAddToMean), 3e-3 / std::sqrt(27e-6));
  EXPECT_DOUBLE_EQ(first(L2Eps::kLeastNorm), 0.6);
}

// P17 and the rounding of transformers: unit vectors are never rounded to bfloat16.
TEST(L2Norm, ScaleAndRounding) {
  L2Norm norm = kUnit;
  norm.scale = 0.5;
  const Tensor x = tensor({1, 2}, {3, 4});
  const double third = run(norm, {x}, {}, nullptr, Precision::kHfBf16).data[0];
  EXPECT_NEAR(third, 0.3, 1e-7);
  norm.precision = WeightPrecision::kActivation;
  EXPECT_EQ(run(norm, {x}, {}, nullptr, Precision::kHfBf16).data[0], 0.30078125);  // of 8 bits
}

constexpr LogDecay kDecay = {.rate = DecayRate::kMinusExp,
                             .rate_precision = ScalePrecision::kActivation,
                             .sum_precision = WeightPrecision::kFloat32};

TEST(LogDecay, IsItsFormula) {
  const std::vector<TestWeight> weights = {{{2}, {0.7, -1.3}}, {{2}, {0.25, 40.0}}};
  const Tensor g = run(kDecay, {tensor({1, 2}, {-2.5, 3})}, weights, nullptr, Precision::kFp64);
  EXPECT_NEAR(g.data[0], -std::exp(0.7) * std::log(1 + std::exp(-2.25)), 1e-15);
  EXPECT_NEAR(g.data[1], -std::exp(-1.3) * 43, 1e-13);  // no overflow on the way
  EXPECT_LE(g.data[0], 0);
}

// P18: a rate that bfloat16 does not hold.
TEST(LogDecay, ARoundedRateShows) {
  const std::vector<TestWeight> weights = {{{1}, {2.7182817}}, {{1}, {0}}};
  const Tensor x = tensor({1, 1}, {1});
  LogDecay rounded = kDecay;
  rounded.rate_precision = ScalePrecision::kBfloat16;
  const double right = run(kDecay, {x}, weights, nullptr, Precision::kFp32).data[0];
  EXPECT_NEAR(right, -std::exp(2.7182817) * std::log(1 + std::exp(1.0)), 1e-5);
  const double wrong = run(rounded, {x}, weights, nullptr, Precision::kFp32).data[0];
  EXPECT_GT(std::abs(wrong / right - 1), 1e-4);
  // transformers rounds the parameter with the model, and so does its emulation.
  EXPECT_EQ(run(kDecay, {x}, weights, nullptr, Precision::kHfBf16).data[0], wrong);
}

constexpr Convolution kConvolution = {.taps = 3,
                                      .order = TapOrder::kNewestLast,
                                      .activation = Activation::kRelu,
                                      .activation_place = ActivationPlace::kAfter,
                                      .window = WindowHolds::kInputs,
                                      .bias = false};

// P12 and P13: tokens one by one and two by two, which shift the window without filling it.
TEST(Convolution, WindowsShift) {
  const std::vector<TestWeight> weight = {{{2, 1, 3}, {1, 10, 100, -1, 0, 2}}};
  const Values x = {1, 5, 2, 6, 3, 7, 4, 8, 5, 9};
  const Values expected = {100, 10, 210, 12, 321, 9, 432, 10, 543, 11};
  for (const std::size_t size : {1U, 2U, 3U, 5U}) {
    StateValue state = ConvolutionWindow{Tensor({2, 2})};
    Values y;
    for (std::size_t first = 0; first < 5; first += size) {
      const std::size_t count = std::min<std::size_t>(size, 5 - first);
      const auto begin = x.begin() + static_cast<std::ptrdiff_t>(2 * first);
      const Tensor piece = tensor({static_cast<std::int64_t>(count), 2},
                                  {begin, begin + static_cast<std::ptrdiff_t>(2 * count)});
      const Tensor out = run(kConvolution, {piece}, weight, &state, Precision::kFp32);
      y.insert(y.end(), out.data.begin(), out.data.end());
    }
    EXPECT_EQ(y, expected) << size;
    EXPECT_EQ(std::get<ConvolutionWindow>(state).rows.data, (Values{4, 8, 5, 9})) << size;
  }
}

constexpr GatedNorm kGated = {.norm = {.eps = 0,
                                       .eps_place = EpsPlace::kInsideRoot,
                                       .weight_offset = 0,
                                       .centre = NormCentre::kNone,
                                       .span = NormSpan::kHead,
                                       .rounding = Rounding::kBeforeWeight},
                              .activation = Activation::kRelu,
                              .place = GatePlace::kAfterNorm,
                              .gate_precision = WeightPrecision::kFloat32};

// P20. Heads [1, 1] and [2, 2] become [1, 1] each; the gates multiply what is left of them.
TEST(GatedNorm, HeadsAreNormedBeforeTheGate) {
  const std::vector<TestWeight> weight = {{{2}, {1, 10}}};
  const std::vector<Tensor> inputs = {tensor({1, 2, 2}, {1, 1, 2, 2}),
                                      tensor({1, 4}, {3, 4, 5, -6})};
  EXPECT_EQ(run(kGated, inputs, weight, nullptr, Precision::kFp64).data, (Values{3, 40, 5, 0}));
  GatedNorm wrong = kGated;
  wrong.place = GatePlace::kBeforeNorm;
  EXPECT_NEAR(run(wrong, inputs, weight, nullptr, Precision::kFp64).data[2], std::sqrt(2.0), 1e-12);
  wrong = kGated;
  wrong.norm.span = NormSpan::kToken;
  EXPECT_NEAR(run(wrong, inputs, weight, nullptr, Precision::kFp64).data[0], 3 / std::sqrt(2.5),
              1e-12);
}

TEST(Slice, TakesFromEachGroup) {
  const Tensor x = tensor({2, 6}, {0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15});
  const auto taken = [&](std::int64_t groups, std::int64_t first) {
    return run(Slice{.out = {2}, .groups = groups, .first = first}, {x}, {}, nullptr,
               Precision::kFp32)
        .data;
  };
  EXPECT_EQ(taken(2, 1), (Values{1, 4, 11, 14}));
  EXPECT_EQ(taken(1, 4), (Values{4, 5, 14, 15}));
}

}  // namespace
}  // namespace plumb
