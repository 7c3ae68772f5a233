// Fields of a block, by their offset in bytes.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/float_bits.h"

namespace plumb {

inline std::uint8_t byte_at(const std::byte* bytes, std::size_t offset) {
  return static_cast<std::uint8_t>(bytes[offset]);
}

inline std::int8_t signed_byte_at(const std::byte* bytes, std::size_t offset) {
  return static_cast<std::int8_t>(bytes[offset]);
}

inline std::uint16_t word_at(const std::byte* bytes, std::size_t offset) {
  std::uint16_t value = 0;
  std::memcpy(&value, bytes + offset, sizeof(value));
  return value;
}

inline std::uint32_t double_word_at(const std::byte* bytes, std::size_t offset) {
  std::uint32_t value = 0;
  std::memcpy(&value, bytes + offset, sizeof(value));
  return value;
}

inline float half_at(const std::byte* bytes, std::size_t offset) {
  return half_to_float(word_at(bytes, offset));
}

// Element i of 32 in half a byte each: the low nibbles hold the first 16.
inline int nibble_at(const std::byte* bytes, std::size_t i) {
  return (byte_at(bytes, i % 16) >> (i / 16 * 4)) & 0xf;
}

}  // namespace plumb
