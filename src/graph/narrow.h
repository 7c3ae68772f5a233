// Rounding to the narrow formats of `Narrow` stages, one for all executors: which value a number becomes is the stage's meaning.
#pragma once
#include "graph/conventions.h"

namespace plumb {

struct NarrowFormat {
  double largest;
  int mantissa_bits;
  int least_exponent;  // of a normal number
};

NarrowFormat narrow_format(StoredAs stored);

// To the nearest that the format holds, ties to even; beyond the largest, the largest.
double round_to_narrow(const NarrowFormat& format, double value);

// The least power of two that is not below `value`, which is positive.
double least_power_of_two(double value);

}  // namespace plumb
