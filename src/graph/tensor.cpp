// Tensors of doubles, rows by token.
#include "graph/tensor.h"

#include "core/check.h"

namespace plumb {

Tensor::Tensor(Shape s) : shape(std::move(s)) {
  const auto count = element_count(shape);
  PLUMB_CHECK(count.has_value());
  data.resize(static_cast<std::size_t>(*count));
}

std::int64_t Tensor::width() const {
  std::int64_t width = 1;
  for (std::size_t i = 1; i < shape.size(); ++i)
    width *= shape[i];
  return width;
}

std::span<double> Tensor::row(std::int64_t token) {
  const auto size = static_cast<std::size_t>(width());
  return std::span(data).subspan(static_cast<std::size_t>(token) * size, size);
}

std::span<const double> Tensor::row(std::int64_t token) const {
  const auto size = static_cast<std::size_t>(width());
  return std::span(data).subspan(static_cast<std::size_t>(token) * size, size);
}

}  // namespace plumb
