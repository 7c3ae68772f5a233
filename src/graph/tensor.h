// Tensor: numbers that the executors hand to each other and to observers. Whatever the arithmetic,
// elements are held as doubles that the profile has rounded, so one typed accessor serves every
// reader and no bytes are reinterpreted.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "core/shape.h"

namespace plumb {

struct Tensor {
  Shape shape;  // tokens first
  std::vector<double> data;

  Tensor() = default;
  explicit Tensor(Shape s);

  std::int64_t tokens() const { return shape.empty() ? 0 : shape[0]; }
  std::int64_t width() const;  // elements of one token
  std::span<double> row(std::int64_t token);
  std::span<const double> row(std::int64_t token) const;
};

}  // namespace plumb
