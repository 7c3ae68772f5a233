// The first rows of each value; values moved within their rounding.
#include "parity/captured_views.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace plumb {

std::vector<std::int32_t> FirstTokens::fed_ids(std::size_t step) const {
  auto ids = whole_.fed_ids(step);
  if (static_cast<std::int64_t>(ids.size()) > steps_[0].count)
    ids.resize(static_cast<std::size_t>(steps_[0].count));
  return ids;
}

std::shared_ptr<const CapturedValue> FirstTokens::value(std::size_t step,
                                                        std::string_view stage) const {
  const auto whole = whole_.value(step, stage);
  if (!whole || whole->values.tokens() != whole_.steps()[0].count) return nullptr;
  Shape shape = whole->values.shape;
  shape[0] = steps_[0].count;
  Tensor first(shape);
  std::copy_n(whole->values.data.begin(), first.data.size(), first.data.begin());
  return std::make_shared<CapturedValue>(CapturedValue{std::move(first), whole->dtype});
}

std::shared_ptr<const CapturedValue> Jittered::value(std::size_t step, std::string_view stage) const {
  const auto own = own_.value(step, stage);
  const auto is_whole = [](double value) { return value == std::floor(value); };
  if (!own || std::ranges::all_of(own->values.data, is_whole)) return own;
  CapturedValue moved = *own;
  std::uint32_t state = 1;
  for (double& value : moved.values.data) {
    state = state * 1664525U + 1013904223U;  // Numerical Recipes' generator: any that is the same in each run
    const double place = static_cast<double>(state >> 8) * 0x1p-23 - 1;  // in [-1, 1)
    if (std::isfinite(value)) value *= 1 + unit_ * place;
  }
  return std::make_shared<CapturedValue>(std::move(moved));
}

}  // namespace plumb
