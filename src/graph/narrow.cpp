#include "graph/narrow.h"

#include <algorithm>
#include <cmath>

namespace plumb {

NarrowFormat narrow_format(StoredAs stored) {
  return stored == StoredAs::kE4m3 ? NarrowFormat{448, 3, -6} : NarrowFormat{6, 1, 0};
}

double round_to_narrow(const NarrowFormat& format, double value) {
  const double magnitude = std::min(std::abs(value), format.largest);
  if (magnitude == 0) return value;
  const int exponent = std::max(std::ilogb(magnitude), format.least_exponent);
  const double step = std::ldexp(1.0, exponent - format.mantissa_bits);
  return std::copysign(std::nearbyint(magnitude / step) * step, value);
}

double least_power_of_two(double value) {
  int exponent = 0;
  const double mantissa = std::frexp(value, &exponent);
  return std::ldexp(1.0, mantissa == 0.5 ? exponent - 1 : exponent);
}

}  // namespace plumb
