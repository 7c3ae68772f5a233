// The first rows of each value.
#include "parity/captured_views.h"

#include <algorithm>

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

}  // namespace plumb
