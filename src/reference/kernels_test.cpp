// Kernels on hand-made operands: what a whole-network comparison would see only at some lengths, or not at all.
#include "reference/kernels.h"

#include <gtest/gtest.h>

#include <cmath>

namespace plumb {
namespace {

constexpr StageContext kExact{.numerics = Numerics(Precision::kFp64),
                              .pool = nullptr,
                              .known_length = 0,
                              .all_outputs = true};

Tensor filled(Shape shape, double first, double step) {
  Tensor tensor(std::move(shape));
  for (std::size_t i = 0; i < tensor.data.size(); ++i)
    tensor.data[i] = std::sin(first + step * static_cast<double>(i));
  return tensor;
}

Tensor counted(std::int64_t n) {
  Tensor tensor({n});
  for (std::int64_t i = 0; i < n; ++i)
    tensor.data[static_cast<std::size_t>(i)] = static_cast<double>(i);
  return tensor;
}

// How many keys each query weighs, from one pass over `tokens` tokens.
std::vector<int> keys_seen(std::optional<std::int64_t> window, std::int64_t future,
                           std::int64_t tokens) {
  const Attend op{.scale = 0.5,
                  .groups = HeadGroups::kRepeat,
                  .window = window,
                  .soft_cap = std::nullopt,
                  .sinks = false,
                  .future = future};
  const Tensor q = filled({tokens, 1, 3}, 1, 0.7);
  const Tensor positions = counted(tokens);
  StateValue state = empty_state({0, KeyValueState{.heads = 1, .key_dim = 3, .value_dim = 3}});
  const auto out = reference::run(op, {{&q, &q, &q, &positions}, {}, {&state}}, kExact);
  std::vector<int> seen;
  for (std::int64_t t = 0; t < tokens; ++t) {
    double total = 0;
    int count = 0;
    for (const double p : out[1].row(t)) {
      total += p;
      count += p > 0 ? 1 : 0;
    }
    EXPECT_NEAR(total, 1, 1e-12);
    seen.push_back(count);
  }
  return seen;
}

TEST(Attend, WindowHoldsItsOwnToken) {
  EXPECT_EQ(keys_seen(std::nullopt, 0, 6), (std::vector{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(keys_seen(4, 0, 6), (std::vector{1, 2, 3, 4, 4, 4}));
  EXPECT_EQ(keys_seen(1, 0, 3), (std::vector{1, 1, 1}));
  EXPECT_EQ(keys_seen(std::nullopt, 1, 4), (std::vector{2, 3, 4, 4}));
}

TEST(Attend, SinkTakesItsShareAndGroupsRepeat) {
  class Sinks final : public Weight {
   public:
    const Shape& shape() const override { return shape_; }
    void read_row(std::int64_t, std::span<double> out) const override {
      std::fill(out.begin(), out.end(), 2.0);
    }
    std::string format() const override { return "test"; }
    std::uint64_t stored_bytes() const override { return 0; }

   private:
    Shape shape_{4};
  };
  const Sinks sinks;
  const Attend op{.scale = 1,
                  .groups = HeadGroups::kRepeat,
                  .window = std::nullopt,
                  .soft_cap = std::nullopt,
                  .sinks = true,
                  .future = 0};
  Tensor q({1, 4, 1});
  Tensor k({1, 2, 1});
  Tensor v({1, 2, 1});
  q.data = {1, 1, 1, 1};
  k.data = {0, 1};
  v.data = {10, 20};
  const Tensor positions = counted(1);
  StateValue state = empty_state({0, KeyValueState{.heads = 2, .key_dim = 1, .value_dim = 1}});
  const auto out = reference::run(op, {{&q, &k, &v, &positions}, {&sinks}, {&state}}, kExact);
  const double first = 10 * std::exp(0.0) / (std::exp(0.0) + std::exp(2.0));
  const double second = 20 * std::exp(1.0) / (std::exp(1.0) + std::exp(2.0));
  EXPECT_NEAR(out[2].data[0], first, 1e-12);
  EXPECT_NEAR(out[2].data[1], first, 1e-12);  // heads 0 and 1 share key head 0
  EXPECT_NEAR(out[2].data[2], second, 1e-12);
  EXPECT_NEAR(out[2].data[3], second, 1e-12);
}

TEST(Router, EqualScoresGoToTheLowestId) {
  const Router op{.experts = 4,
                  .chosen = 2,
                  .choice = RouterChoice::kLargest,
                  .score = RouterScore::kSoftmax,
                  .order = RouterOrder::kScoreThenSelect,
                  .selection_bias = SelectionBias::kNone,
                  .groups = std::nullopt,
                  .renormalise = true,
                  .sum_epsilon = 0,
                  .scale = 1,
                  .arithmetic = WeightPrecision::kFloat32,
                  .precision = WeightPrecision::kFloat32};
  Tensor logits({1, 4});
  logits.data = {0.5, 1.0, 1.0, 1.0};
  const auto out = reference::run(op, {{&logits}, {}, {}}, kExact);
  EXPECT_EQ(out[1].data, (std::vector<double>{1, 2}));
  EXPECT_NEAR(out[2].data[0], 0.5, 1e-12);
}

TEST(Rope, InverseUndoesForwardOnTheChosenSlice) {
  Rope op{.pairing = RopePairing::kInterleaved,
          .slice = RopeSlice::kLast,
          .direction = RopeDirection::kForward,
          .dims = 4,
          .frequencies = {.scaling = RopeScaling::kNone,
                          .theta = 100,
                          .factor = 1,
                          .original_length = 0,
                          .low_freq_factor = 0,
                          .high_freq_factor = 0,
                          .beta_fast = 0,
                          .beta_slow = 0,
                          .truncate = true,
                          .short_factor = {},
                          .long_factor = {},
                          .divisors = {}},
          .attention_factor = 1,
          .position_offset = 0,
          .arithmetic = WeightPrecision::kActivation,
          .tables = WeightPrecision::kActivation};
  const Tensor x = filled({5, 2, 7}, 0.3, 0.9);
  const Tensor positions = counted(5);
  const Tensor turned = reference::run(op, {{&x, &positions}, {}, {}}, kExact)[0];
  EXPECT_EQ(std::vector<double>(turned.row(3).begin(), turned.row(3).begin() + 3),
            std::vector<double>(x.row(3).begin(), x.row(3).begin() + 3));
  EXPECT_NE(turned.row(3)[3], x.row(3)[3]);
  op.direction = RopeDirection::kInverse;
  const Tensor back = reference::run(op, {{&turned, &positions}, {}, {}}, kExact)[0];
  for (std::size_t i = 0; i < x.data.size(); ++i)
    EXPECT_NEAR(back.data[i], x.data[i], 1e-12);
}

TEST(Dot, AddsEveryElementOnce) {
  for (const std::int64_t n : {0, 1, 15, 16, 17, 47}) {
    const Tensor a = filled({n}, 1, 1);
    const Tensor b = filled({n}, 2, 3);
    double expected = 0;
    for (std::size_t i = 0; i < a.data.size(); ++i)
      expected += a.data[i] * b.data[i];
    EXPECT_NEAR(reference::dot(a.data.data(), b.data.data(), n), expected, 1e-12);
  }
}

}  // namespace
}  // namespace plumb
