#include "parity/stored_codes.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace plumb {
namespace {

// Rows of whole numbers with a scale for each `group` columns.
class Groups final : public Weight {
 public:
  Groups(std::int64_t columns, std::int64_t group) : shape_{3, columns}, group_(group) {}
  const Shape& shape() const override { return shape_; }
  void read_row(std::int64_t row, std::span<double> out) const override {
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = code(row, i) * scale(row, i);
  }
  bool has_integers() const override { return true; }
  void read_integers(std::int64_t row, std::span<std::int8_t> codes, std::span<float> scales, std::span<float> offsets) const override {
    for (std::size_t i = 0; i < codes.size(); ++i)
      codes[i] = static_cast<std::int8_t>(code(row, i));
    for (std::size_t run = 0; run < scales.size(); ++run)
      scales[run] = static_cast<float>(scale(row, run * 16));
    std::ranges::fill(offsets, 0.0F);
  }
  std::string format() const override { return "4-bit integers"; }
  std::uint64_t stored_bytes() const override { return 0; }

 private:
  static int code(std::int64_t row, std::size_t i) { return static_cast<int>((static_cast<std::size_t>(row) + i * 7) % 16) - 8; }
  double scale(std::int64_t row, std::size_t i) const { return static_cast<double>(1 + row + static_cast<std::int64_t>(i) / group_); }

  Shape shape_;
  std::int64_t group_;
};

// Widths that are no powers of two, as most are: 2880, 3072, 5120.
TEST(StoredCodes, FindTheGroupOfIntegersInRowsOfAnyLength) {
  for (const std::int64_t columns : {96, 128, 2880, 5120}) {
    for (const std::int64_t group : {16, 32, 64}) {
      if (columns % group != 0) continue;
      const Groups weight(columns, group);
      const auto form = stored_form(weight);
      ASSERT_TRUE(form.has_value());
      EXPECT_EQ(form->group, static_cast<std::size_t>(group)) << columns;
      EXPECT_EQ(form->run, form->group);
      EXPECT_EQ(form->bits, 4);
      const StoredRow row = parts_of_row(weight, *form, 2);
      ASSERT_EQ(row.scales.size(), static_cast<std::size_t>(columns / group));
      std::vector<double> values(static_cast<std::size_t>(columns));
      weight.read_row(2, values);
      for (std::size_t i = 0; i < values.size(); ++i)
        ASSERT_EQ(row.codes[i] * row.scales[i / form->group], values[i]) << i;
    }
  }
}

}  // namespace
}  // namespace plumb
