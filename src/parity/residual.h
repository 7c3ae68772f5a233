// How far one tensor is from another.
#pragma once
#include <cstdint>
#include <vector>

#include "graph/tensor.h"

namespace plumb {

// Of attention's scores, and below: masked, by -inf or the least number of the dtype, which in float16 is -65504.
inline constexpr double kMaskedScore = -6e4;

struct Residual {
  double relative_l2;  // |y - f| / |f| over all elements
  double
      worst_row;  // the largest row's |y - f| over the larger of |f| of that row and the mean row's
  std::int64_t worst_token;
  double largest;  // the largest |y - f|
  double cosine;
  double bit_match;  // share of elements that are equal
};

// Whether all, and each row, is within what a right engine may be off by; a row alone varies more than all.
inline bool within(const Residual& r, double budget) {
  return r.relative_l2 <= budget && r.worst_row <= 6 * budget;
}

// `y` against `f`, of equal shapes. Masked scores (-inf, or -6e4 and below, on both sides) are left out; an element that is
// not finite on one side only counts as an error of the size of everything, to which the share of such elements is added.
Residual residual(const Tensor& y, const Tensor& f);

// The same of each row: |y - f| over the larger of that row's |f| and the mean row's; infinite where a number is missing on one
// side.
std::vector<double> row_errors(const Tensor& y, const Tensor& f);

}  // namespace plumb
