// The stages of compressed attention and hyper-connections, each against numbers worked out by hand
// or printed in specs/deepseek_v4.md.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

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

std::vector<Tensor> run(const Operation& operation, const std::vector<Tensor>& inputs,
                        const std::vector<TestWeight>& weights, StateValue* state) {
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
                   {.numerics = Numerics(Precision::kFp64),
                    .pool = nullptr,
                    .known_length = 1,
                    .all_outputs = true});
}

Values narrowed(StoredAs format, Values values, std::int64_t block) {
  const auto n = static_cast<std::int64_t>(values.size());
  const double floor = format == StoredAs::kE4m3 ? 1e-4 : 6 * std::ldexp(1.0, -126);
  return run(Narrow{.format = format, .channels = n, .block = block, .floor = floor},
             {tensor({1, n}, std::move(values))}, {}, nullptr)[0]
      .data;
}

TEST(HyperConnectionTest, SinkhornGivesTheSpecificationsMatrix) {
  Values base(24, 0.0);
  const Values logits = {2, 0, -1, .5, 0, 1, .3, -2, 1, 1, 0, 0, -.5, .2, 3, 0};
  std::copy(logits.begin(), logits.end(), base.begin() + 8);
  const HyperConnection op{.streams = 4,
                           .mixes = true,
                           .norm_eps = 1e-6,
                           .eps = 1e-6,
                           .post_scale = 2,
                           .iterations = 20,
                           .start = SinkhornStart::kColumns};
  const auto out = run(
      op, {tensor({1, 4, 1}, {1, 2, 3, 4})},
      {TestWeight({24, 4}, Values(96, 0.0)), TestWeight({24}, base), TestWeight({3}, {1, 1, 1})},
      nullptr);
  const Values row0 = {.5115328, .0766084, .0184442, .3934137};
  const Values row3 = {.0304022, .0677471, .7290825, .1727672};
  for (std::size_t k = 0; k < 4; ++k) {
    EXPECT_NEAR(out[2].data[k], row0[k], 1e-7);
    EXPECT_NEAR(out[2].data[12 + k], row3[k], 1e-7);
    double column = 0;
    double row = 0;
    for (std::size_t j = 0; j < 4; ++j) {
      column += out[2].data[j * 4 + k];
      row += out[2].data[k * 4 + j];
    }
    EXPECT_NEAR(column, .999999, 1e-7);
    EXPECT_NEAR(row, .999999, 1e-6);
    EXPECT_DOUBLE_EQ(out[0].data[k], 0.5 + 1e-6);
    EXPECT_DOUBLE_EQ(out[1].data[k], 1);
  }
}

TEST(HyperConnectionTest, MixesOverTheFirstAxis) {
  const Tensor streams = tensor({1, 2, 1}, {10, 100});
  const Tensor comb = tensor({1, 2, 2}, {1, 2, 3, 4});
  const Tensor branch = tensor({1, 1}, {1000});
  const Tensor post = tensor({1, 2}, {1, 2});
  const auto mixed = [&](StreamAxis axis) {
    return run(Mix{.incoming = axis}, {streams, branch, post, comb}, {}, nullptr)[0].data;
  };
  EXPECT_EQ(mixed(StreamAxis::kFirst), (Values{1000 + 10 + 300, 2000 + 20 + 400}));
  EXPECT_EQ(mixed(StreamAxis::kSecond), (Values{1000 + 10 + 200, 2000 + 30 + 400}));
}

// Scores of minus infinity but for one token in each block pick that token's value.
TEST(CompressTest, ABlockIsTheTokensThatItsScoresChoose) {
  constexpr double kNever = -std::numeric_limits<double>::infinity();
  const Compress op{.ratio = 2,
                    .overlap = true,
                    .position_bias = true,
                    .before_first = BeforeFirst::kAbsent,
                    .position = BlockPosition::kFirstToken};
  StateValue state = empty_state({.layer = 0, .kind = RemainderState{.width = 2, .tokens = 4}});
  // Channel 0 counts in the next block, channel 1 in its own.
  const Tensor kv = tensor({5, 2}, {1, 10, 2, 20, 3, 30, 4, 40, 5, 50});
  const Tensor scores =
      tensor({5, 2}, {kNever, kNever, 0, 0, kNever, kNever, kNever, kNever, 0, 0});
  const TestWeight bias({2, 2}, {0, 0, 7, 7});
  const auto out = run(op, {kv, scores, tensor({5}, {0, 1, 2, 3, 4})}, {bias}, &state);
  EXPECT_EQ(out[0].data, (Values{20, 2}));
  EXPECT_EQ(out[1].data, (Values{0, 2}));
  EXPECT_EQ(std::get<Remainder>(state).values.data, (Values{5, 50}));
}

TEST(CompressTest, TheBiasBelongsToThePlaceInTheBlock) {
  const Compress op{.ratio = 2,
                    .overlap = false,
                    .position_bias = true,
                    .before_first = BeforeFirst::kAbsent,
                    .position = BlockPosition::kFirstToken};
  StateValue state = empty_state({.layer = 0, .kind = RemainderState{.width = 1, .tokens = 2}});
  const TestWeight bias({2, 1}, {std::log(3.0), 0});
  const Tensor zeros = tensor({1, 1}, {0});
  // One token at a time, as in decode.
  EXPECT_TRUE(
      run(op, {tensor({1, 1}, {4}), zeros, tensor({1}, {0})}, {bias}, &state)[0].data.empty());
  const auto out = run(op, {tensor({1, 1}, {8}), zeros, tensor({1}, {1})}, {bias}, &state);
  EXPECT_NEAR(out[0].data.at(0), 0.75 * 4 + 0.25 * 8, 1e-12);
}

TEST(IndexTest, EqualScoresGoToTheLowestBlock) {
  Index op{.blocks = {.ratio = 2, .ahead = 1},
           .chosen = 3,
           .rectified = true,
           .score_scale = 1,
           .weight_scale = 1};
  const Tensor q = tensor({3, 1, 1}, {1, 1, 1});
  const Tensor weights = tensor({3, 1}, {1, 1, 1});
  const Tensor entries = tensor({4, 1}, {-1, -2, 5, -3});
  const Tensor positions = tensor({3}, {2, 6, 7});
  EXPECT_EQ(run(op, {q, weights, entries, positions}, {}, nullptr)[1].data,
            (Values{0, -1, -1, 2, 0, 1, 2, 0, 1}));
  op.rectified = false;
  EXPECT_EQ(run(op, {q, weights, entries, positions}, {}, nullptr)[1].data,
            (Values{0, -1, -1, 2, 0, 1, 2, 0, 1}));
  op.chosen = 4;
  EXPECT_EQ(run(op, {q, weights, entries, positions}, {}, nullptr)[1].data,
            (Values{0, -1, -1, -1, 2, 0, 1, -1, 2, 0, 1, 3}));
}

TEST(NarrowTest, FourBitsRoundTiesToEven) {
  const Values in = {6, .25, .26, .75, 1.25, 1.26, 1.75, 2.5, 2.51, 3.5, 5, 5.01, -5.01, -.25};
  const Values out = {6, 0, .5, 1, 1, 1.5, 2, 2, 3, 4, 4, 6, -6, -0.0};
  EXPECT_EQ(narrowed(StoredAs::kE2m1, in, 32), out);
}

TEST(NarrowTest, EightBitsRoundTiesToEven) {
  const Values in = {448, 17, 19, 0.0009, 0.001, 1.0 / 1024, 3.0 / 1024, 447};
  const Values out = {448, 16, 20, 0, 1.0 / 512, 0, 1.0 / 256, 448};
  EXPECT_EQ(narrowed(StoredAs::kE4m3, in, 64), out);
}

TEST(NarrowTest, AScaleIsAPowerOfTwoAndOfItsBlock) {
  EXPECT_EQ(narrowed(StoredAs::kE2m1, {6, 1.2, 6.1, 1.2}, 2), (Values{6, 1, 6, 1}));
  EXPECT_EQ(narrowed(StoredAs::kE2m1, {3, .6, 0.7, 1.5}, 2), (Values{3, .5, .75, 1.5}));
  EXPECT_EQ(narrowed(StoredAs::kE4m3, {449, 17}, 64), (Values{448, 16}));
  // Below the floor of 1e-4 the scale is 2^ceil(log2(1e-4 / 448)) = 2^-22.
  EXPECT_EQ(narrowed(StoredAs::kE4m3, {std::ldexp(1.0, -22), 0}, 64),
            (Values{std::ldexp(1.0, -22), 0}));
}

TEST(HadamardTest, IsSylvestersAndItsOwnInverse) {
  const Tensor once = run(Hadamard{}, {tensor({1, 4}, {1, 2, 3, 4})}, {}, nullptr)[0];
  EXPECT_EQ(once.data, (Values{5, -1, -2, 0}));
  EXPECT_EQ(run(Hadamard{}, {once}, {}, nullptr)[0].data, (Values{1, 2, 3, 4}));
}

TEST(RouterTest, SquareRootOfSoftplus) {
  const Router op{.experts = 4,
                  .chosen = 2,
                  .choice = RouterChoice::kTable,
                  .score = RouterScore::kSqrtSoftplus,
                  .order = RouterOrder::kScoreThenSelect,
                  .selection_bias = SelectionBias::kNone,
                  .groups = std::nullopt,
                  .renormalise = true,
                  .sum_epsilon = 1e-20,
                  .scale = 1.5,
                  .arithmetic = WeightPrecision::kActivation,
                  .precision = WeightPrecision::kActivation};
  const TestWeight table({3, 2}, {0, 1, 3, 2, 1, 0});
  const auto out = run(op, {tensor({1, 4}, {-3, 0, 2, 12}), tensor({1}, {1})}, {table}, nullptr);
  const Values scores = {.2204254, .8325546, 1.4583991, 3.4641025};
  for (std::size_t e = 0; e < 4; ++e)
    EXPECT_NEAR(out[0].data[e], scores[e], 1e-7);
  EXPECT_EQ(out[1].data, (Values{3, 2}));
  EXPECT_NEAR(out[2].data[0], 1.5 * 3.4641025 / (3.4641025 + 1.4583991), 1e-7);
}

// Two groups of two; the better group has the larger sum, not the larger score.
TEST(RouterTest, ExpertsComeFromTheBestGroups) {
  Router op{
      .experts = 4,
      .chosen = 2,
      .choice = RouterChoice::kLargest,
      .score = RouterScore::kSigmoid,
      .order = RouterOrder::kScoreThenSelect,
      .selection_bias = SelectionBias::kChoice,
      .groups =
          ExpertGroups{
              .groups = 2, .chosen = 1, .largest = 2, .excluded = ExcludedScore::kMinusInfinity},
      .renormalise = false,
      .sum_epsilon = 0,
      .scale = 1,
      .arithmetic = WeightPrecision::kFloat32,
      .precision = WeightPrecision::kFloat32};
  const Tensor logits = tensor({1, 4}, {3, -3, 1, 1});
  const auto chosen = [&](Values bias) {
    return run(op, {logits}, {TestWeight({4}, std::move(bias))}, nullptr)[1].data;
  };
  EXPECT_EQ(chosen({0, 0, 0, 0}), (Values{2, 3}));
  EXPECT_EQ(chosen({0, 1, 0, 0}), (Values{1, 0}));
  op.groups->largest = 1;
  EXPECT_EQ(chosen({0, 0, 0, 0}), (Values{0, 1}));
  // Scores below the excluded ones' zero lose to them.
  op.groups->largest = 2;
  EXPECT_EQ(chosen({-2, -2, -1, -1}), (Values{2, 3}));
  op.groups->excluded = ExcludedScore::kZero;
  EXPECT_EQ(chosen({-2, -2, -1, -1}), (Values{0, 1}));
}

}  // namespace
}  // namespace plumb
