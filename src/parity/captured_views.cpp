// The first rows of each value; values moved within their rounding.
#include "parity/captured_views.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>

namespace plumb {

std::vector<std::int32_t> FirstTokens::fed_ids(std::size_t step) const {
  auto ids = own_.fed_ids(step);
  if (static_cast<std::int64_t>(ids.size()) > steps_[0].count)
    ids.resize(static_cast<std::size_t>(steps_[0].count));
  return ids;
}

std::shared_ptr<const CapturedValue> FirstTokens::value(std::size_t step,
                                                        std::string_view stage) const {
  const auto whole = own_.value(step, stage);
  if (!whole || whole->values.tokens() != own_.steps()[0].count) return nullptr;
  Shape shape = whole->values.shape;
  shape[0] = steps_[0].count;
  Tensor first(shape);
  std::copy_n(whole->values.data.begin(), first.data.size(), first.data.begin());
  return std::make_shared<CapturedValue>(CapturedValue{std::move(first), whole->dtype});
}

double half_step(DType type, double value) {
  if (value == 0 || !std::isfinite(value)) return 0;
  struct Format {
    int fraction;  // bits
    int least;     // exponent of the smallest normal number
  };
  const Format format = type == DType::kBF16 ? Format{7, -126} : type == DType::kF16 ? Format{10, -14} : Format{23, -126};
  return std::ldexp(1.0, std::max(std::ilogb(value), format.least) - format.fraction - 1);
}

Tensor jittered(const Tensor& values, DType type, std::uint64_t seed) {
  const auto is_whole = [](double value) { return value == std::floor(value); };
  Tensor moved = values;
  if (std::ranges::all_of(values.data, is_whole)) return moved;
  std::uint64_t state = seed;
  for (double& value : moved.data) {
    state = state * 6364136223846793005U + 1442695040888963407U;  // Knuth's generator (MMIX): any that is the same in each run
    const double place = static_cast<double>(state >> 32) * 0x1p-31 - 1;  // in [-1, 1)
    value += half_step(type, value) * place;
  }
  return moved;
}

std::shared_ptr<const CapturedValue> Jittered::value(std::size_t step, std::string_view stage) const {
  const auto own = own_.value(step, stage);
  if (!own) return own;
  // Operands of one stage are moved independently: were they moved alike, a product of two would err by twice as much.
  const std::uint64_t place = std::hash<std::string_view>{}(stage) + 31 * step;
  return std::make_shared<CapturedValue>(CapturedValue{jittered(own->values, type_, seed_ ^ place), own->dtype});
}

}  // namespace plumb
