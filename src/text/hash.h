// A hash of one number for tables of tokens.
#pragma once
#include <cstdint>

namespace plumb {

inline std::uint64_t mix(std::uint64_t x) {  // the finalizer of splitmix64
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
  x = (x ^ x >> 27) * 0x94D049BB133111EB;
  return x ^ x >> 31;
}

}  // namespace plumb
