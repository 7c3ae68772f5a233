// How many rows a shape has when its last axis is the row.
#include "io/weight.h"

namespace plumb {

std::int64_t Weight::rows() const {
  const Shape& axes = shape();
  std::int64_t rows = 1;
  for (std::size_t i = 0; i + 1 < axes.size(); ++i)
    rows *= axes[i];
  return rows;
}

std::int64_t Weight::row_length() const {
  return shape().empty() ? 1 : shape().back();
}

}  // namespace plumb
