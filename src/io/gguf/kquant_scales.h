// The 12 bytes that hold eight scales and eight minima of six bits each in Q4_K and Q5_K (ggml-quants.c).
#pragma once
#include <cstddef>
#include <cstdint>

#include "io/gguf/block_bytes.h"

namespace plumb {

struct ScaleAndMinimum {
  int scale;
  int minimum;
};

// Groups 0 to 3 lie in the low six bits of bytes 0 to 3 (scales) and 4 to 7 (minima); groups 4 to 7 have their low nibbles
// in bytes 8 to 11 and their upper two bits above those of groups 0 to 3.
inline ScaleAndMinimum unpack_six_bits(const std::byte* packed, std::size_t group) {
  const std::size_t j = group % 4;
  if (group < 4) return {byte_at(packed, j) & 0x3f, byte_at(packed, j + 4) & 0x3f};
  const int low = byte_at(packed, j + 8);
  return {(low & 0xf) | ((byte_at(packed, j) >> 6) << 4),
          (low >> 4) | ((byte_at(packed, j + 4) >> 6) << 4)};
}

inline void pack_six_bits(const ScaleAndMinimum (&groups)[8], std::uint8_t* packed) {
  for (std::size_t j = 0; j < 4; ++j) {
    const ScaleAndMinimum& first = groups[j];
    const ScaleAndMinimum& second = groups[j + 4];
    packed[j] = static_cast<std::uint8_t>(first.scale | ((second.scale >> 4) << 6));
    packed[j + 4] = static_cast<std::uint8_t>(first.minimum | ((second.minimum >> 4) << 6));
    packed[j + 8] = static_cast<std::uint8_t>((second.scale & 0xf) | ((second.minimum & 0xf) << 4));
  }
}

}  // namespace plumb
