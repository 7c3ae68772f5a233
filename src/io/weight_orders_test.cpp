// Orders of rows and columns that files have, and the way back.
#include "io/weight_orders.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "io/forms/form_test_support.h"

namespace plumb {
namespace {

// Element i of the flattened tensor is i.
class Counted final : public Weight {
 public:
  explicit Counted(Shape shape) : shape_(std::move(shape)) {}
  const Shape& shape() const override { return shape_; }
  void read_row(std::int64_t row, std::span<double> out) const override {
    std::iota(out.begin(), out.end(), static_cast<double>(row * row_length()));
  }
  std::string format() const override { return "F32"; }
  std::uint64_t stored_bytes() const override { return 0; }

 private:
  Shape shape_;
};

WeightPtr counted(Shape shape) {
  return std::make_shared<Counted>(std::move(shape));
}

std::vector<double> all(const Weight& weight) {
  return test::FormFile::values_of(weight);
}

std::vector<double> all(const Result<WeightPtr>& weight) {
  EXPECT_TRUE(weight.ok()) << (weight.ok() ? "" : weight.error().message);
  return weight.ok() ? all(*weight.value()) : std::vector<double>();
}

using Values = std::vector<double>;

// Two key heads with three value heads each: tiled is the first of both, the second of both, …
constexpr HeadTiles kTiles{.groups = 2, .of_group = 3, .width = 1};

TEST(WeightOrders, ValueHeadsAreTiled) {
  const auto vector = counted({6});
  EXPECT_EQ(all(tiled_rows_view(vector, kTiles, TileOrder::kTiled)), (Values{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(all(tiled_rows_view(vector, kTiles, TileOrder::kGrouped)), (Values{0, 2, 4, 1, 3, 5}));
  // Rows before the heads stay, and so does what lies under a row.
  const auto rows = counted({8, 1, 2});
  EXPECT_EQ(all(tiled_rows_view(rows, kTiles, TileOrder::kTiled)),
            (Values{0, 1, 2, 3, 4, 5, 10, 11, 6, 7, 12, 13, 8, 9, 14, 15}));
  const HeadTiles wide{.groups = 2, .of_group = 2, .width = 2};
  EXPECT_EQ(all(tiled_columns_view(counted({2, 8}), wide, TileOrder::kTiled)),
            (Values{0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15}));
}

TEST(WeightOrders, TilingIsUndone) {
  const HeadTiles tiles{.groups = 3, .of_group = 4, .width = 5};
  for (const bool columns : {false, true}) {
    const auto view = columns ? tiled_columns_view : tiled_rows_view;
    const auto weight = counted(columns ? Shape{2, 67} : Shape{67, 2});
    const auto tiled = view(weight, tiles, TileOrder::kTiled);
    EXPECT_NE(all(tiled), all(*weight));
    EXPECT_EQ(all(view(tiled.value(), tiles, TileOrder::kGrouped)), all(*weight));
  }
}

TEST(WeightOrders, RunsAreSplitAndJoined) {
  const auto weight = counted({10, 2});  // two runs of five rows
  const auto first = run_parts_view(weight, 2, 0, 2);
  const auto second = run_parts_view(weight, 2, 2, 3);
  EXPECT_EQ(all(first), (Values{0, 1, 2, 3, 10, 11, 12, 13}));
  EXPECT_EQ(all(second), (Values{4, 5, 6, 7, 8, 9, 14, 15, 16, 17, 18, 19}));
  EXPECT_EQ(all(joined_runs_view({{first.value(), 2}, {second.value(), 3}}, 2)), all(*weight));
}

TEST(WeightOrders, GroupsAreTransposed) {
  const auto turned = transposed_groups_view(counted({4, 3}), 2);
  ASSERT_TRUE(turned.ok());
  EXPECT_EQ(turned.value()->shape(), Shape({2, 3, 2}));
  EXPECT_EQ(all(turned), (Values{0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11}));
  EXPECT_EQ(all(turned), all(turned)) << "a group that was let go is read again";
  EXPECT_EQ(all(transposed_groups_view(turned.value(), 2)), all(*counted({4, 3})));
}

TEST(WeightOrders, RotaryTurnsTakeTheHalvesInTurn) {
  EXPECT_EQ(all(rotary_turns_view(counted({8}), 4)), (Values{0, 2, 1, 3, 4, 6, 5, 7}));
  EXPECT_EQ(all(rotary_halves_view(counted({12}), 6)),
            (Values{0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11}));
}

TEST(WeightOrders, FunctionsAndTheirInverses) {
  const auto weight = counted({4});
  EXPECT_EQ(all(*plus_one_view(weight)), (Values{1, 2, 3, 4}));
  EXPECT_EQ(all(*minus_exp_view(weight))[1], -std::exp(1.0));
  const Values back = all(*log_of_minus_view(minus_exp_view(weight)));
  for (std::size_t i = 0; i < back.size(); ++i)
    EXPECT_NEAR(back[i], static_cast<double>(i), 1e-14);
  EXPECT_TRUE(std::isnan(all(*log_of_minus_view(weight))[1]));
}

TEST(WeightOrders, ShapesThatDoNotFitAreErrors) {
  const auto weight = counted({6, 2});
  constexpr std::int64_t kHuge = std::int64_t{1} << 62;
  EXPECT_FALSE(tiled_rows_view(weight, {.groups = 2, .of_group = 2, .width = 2}, TileOrder::kTiled).ok());
  EXPECT_FALSE(tiled_rows_view(weight, {.groups = kHuge, .of_group = 4, .width = 1}, TileOrder::kTiled).ok());
  EXPECT_FALSE(tiled_rows_view(weight, {.groups = 0, .of_group = 2, .width = 1}, TileOrder::kTiled).ok());
  EXPECT_FALSE(tiled_columns_view(weight, kTiles, TileOrder::kTiled).ok());
  EXPECT_FALSE(run_parts_view(weight, 4, 0, 1).ok());
  EXPECT_FALSE(run_parts_view(weight, 2, 2, 2).ok());
  EXPECT_FALSE(run_parts_view(weight, 2, kHuge, kHuge).ok());
  EXPECT_FALSE(joined_runs_view({{weight, 2}}, 2).ok());
  EXPECT_FALSE(joined_runs_view({}, 2).ok());
  EXPECT_FALSE(transposed_groups_view(weight, 4).ok());
  EXPECT_FALSE(transposed_groups_view(weight, 0).ok());
  EXPECT_FALSE(same_rows_view(weight, {12}).ok());
  EXPECT_FALSE(rotary_turns_view(weight, 4).ok());
}

}  // namespace
}  // namespace plumb
