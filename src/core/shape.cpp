// Shapes: counts and their text form.
#include "core/shape.h"

#include "core/checked.h"

namespace plumb {

std::optional<std::int64_t> element_count(const Shape& shape) {
  for (const std::int64_t axis : shape) {
    if (axis < 0) return std::nullopt;
  }
  return checked_product<std::int64_t>(shape);
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i != 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

}  // namespace plumb
