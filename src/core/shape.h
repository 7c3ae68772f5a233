// Shape: the sizes of a tensor's axes, slowest first. Element counts of shapes from outside go
// through element_count().
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace plumb {

using Shape = std::vector<std::int64_t>;

// The product of the axes; nothing when an axis is negative or the product does not fit in 63 bits.
// 1 for no axes.
std::optional<std::int64_t> element_count(const Shape& shape);

// "[40, 4, 48]".
std::string to_string(const Shape& shape);

}  // namespace plumb
