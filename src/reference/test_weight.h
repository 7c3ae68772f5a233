// A weight of numbers that a test writes down.
#pragma once
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "io/weight.h"

namespace plumb::test {

class TestWeight final : public Weight {
 public:
  TestWeight(Shape shape, std::vector<double> values)
      : shape_(std::move(shape)), values_(std::move(values)) {}
  const Shape& shape() const override { return shape_; }
  void read_row(std::int64_t row, std::span<double> out) const override {
    std::copy_n(values_.begin() + row * row_length(), out.size(), out.begin());
  }
  std::string format() const override { return "of a test"; }
  std::uint64_t stored_bytes() const override { return 0; }

 private:
  Shape shape_;
  std::vector<double> values_;
};

}  // namespace plumb::test
