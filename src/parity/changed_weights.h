// Weights that are another weight misread: what structural hypotheses put in its place.
#pragma once
#include <cstdint>
#include <vector>

#include "io/weight.h"

namespace plumb {

// Row r is row order[r] of `weight`; a vector is taken element by element.
WeightPtr reordered_rows(WeightPtr weight, std::vector<std::int64_t> order);

// The two halves of each row, the second first.
WeightPtr exchanged_halves(WeightPtr weight);

// Row r is row `order[r].row` of weight `order[r].weight`; of vectors the elements. All of one row length.
struct RowOf {
  std::size_t weight;
  std::int64_t row;
};
WeightPtr rows_of(std::vector<WeightPtr> weights, std::vector<RowOf> order);

// Every element is `value`.
WeightPtr constant(Shape shape, double value);

// Every element times `factor`.
WeightPtr scaled(WeightPtr weight, double factor);

// The sum of `offset` and each element is rounded to bfloat16, as when it is added once, in the file's type, and stored.
WeightPtr rounded_with_offset(WeightPtr weight, double offset);

// Input columns outside [first, first + count) are zero: what one rank of a row-parallel projection holds.
WeightPtr column_range(WeightPtr weight, std::int64_t first, std::int64_t count);

}  // namespace plumb
