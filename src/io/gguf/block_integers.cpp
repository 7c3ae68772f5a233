// Eight elements at a time: entries of the grids as eight bytes, their signs by the negative of a byte, which none of theirs leaves.
#include "io/gguf/block_integers.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "io/gguf/block_bytes.h"
#include "io/gguf/grids.h"

namespace plumb {
namespace {

using Eight = std::uint64_t;  // the first element in the lowest byte

// By entry, its codes through `values`, of 8 elements with 2 bits or 4 with 4.
template <std::size_t entries>
std::array<Eight, entries> spread(const std::array<std::uint16_t, entries>& grid, unsigned bits, const std::array<int, 8>& values) {
  std::array<Eight, entries> table{};
  for (std::size_t e = 0; e < entries; ++e) {
    for (unsigned i = 0; i < 16 / bits; ++i) {
      const int value = values[(grid[e] >> (bits * i)) & (bits == 2 ? 3U : 7U)];
      table[e] |= static_cast<Eight>(static_cast<std::uint8_t>(value)) << (8 * i);
    }
  }
  return table;
}

constexpr std::array<int, 8> kTwo = {8, 25, 43, 0, 0, 0, 0, 0};
constexpr std::array<int, 8> kThreeXxs = {4, 12, 20, 28, 36, 44, 52, 62};
constexpr std::array<int, 8> kThreeS = {1, 3, 5, 7, 9, 11, 13, 15};

// Where bit i of an index is set, byte i is 0xff.
const std::array<Eight, 256> kMasks = [] {
  std::array<Eight, 256> masks{};
  for (unsigned bits = 0; bits < 256; ++bits) {
    for (unsigned i = 0; i < 8; ++i) {
      if ((bits >> i & 1U) != 0) masks[bits] |= Eight{0xff} << (8 * i);
    }
  }
  return masks;
}();

// Of bytes from 1 to 127, those with a bit in `signs` negative.
Eight with_signs(Eight values, std::uint8_t signs) {
  const Eight mask = kMasks[signs];
  return (values ^ mask) + (mask & 0x0101010101010101U);
}

// Seven sign bits; the eighth makes the number of minus signs even.
std::uint8_t even_signs(std::uint32_t seven) {
  seven &= 0x7fU;
  return static_cast<std::uint8_t>(seven | (static_cast<std::uint32_t>(std::popcount(seven) & 1) << 7));
}

void put(std::int8_t* codes, std::size_t k, Eight values) {
  std::memcpy(codes + 8 * k, &values, 8);
}

void iq2_xxs(const std::byte* bytes, std::int8_t* codes, float* scales) {
  static const auto grid = spread(kIq2XxsGrid, 2, kTwo);
  const float d = half_at(bytes, 0);
  for (std::size_t group = 0; group < 8; ++group) {
    const std::byte* at = bytes + 2 + group * 8;
    const std::uint32_t word = double_word_at(at, 4);
    scales[2 * group] = scales[2 * group + 1] = d * (0.5F + static_cast<float>(word >> 28)) * 0.25F;
    for (unsigned k = 0; k < 4; ++k)
      put(codes, group * 4 + k, with_signs(grid[byte_at(at, k)], even_signs(word >> (7 * k))));
  }
}

// Of sixteen groups, the nibbles from byte `at` on.
void nibble_scales(const std::byte* bytes, std::size_t at, float* scales) {
  const float d = half_at(bytes, 0);
  for (std::size_t k = 0; k < 16; ++k) {
    const int four = (byte_at(bytes, at + k / 2) >> (k % 2 * 4)) & 0xf;
    scales[k] = d * (0.5F + static_cast<float>(four)) * 0.25F;
  }
}

void iq2_xs(const std::byte* bytes, std::int8_t* codes, float* scales) {
  static const auto grid = spread(kIq2XsGrid, 2, kTwo);
  nibble_scales(bytes, 66, scales);
  for (std::size_t k = 0; k < 32; ++k) {
    const std::uint16_t word = word_at(bytes, 2 + 2 * k);
    put(codes, k, with_signs(grid[word & 511U], even_signs(static_cast<std::uint32_t>(word >> 9))));
  }
}

void iq2_s(const std::byte* bytes, std::int8_t* codes, float* scales) {
  static const auto grid = spread(kIq2SGrid, 2, kTwo);
  nibble_scales(bytes, 74, scales);
  for (std::size_t k = 0; k < 32; ++k) {
    const unsigned upper = (byte_at(bytes, 66 + k / 4) >> (k % 4 * 2)) & 3U;
    put(codes, k, with_signs(grid[byte_at(bytes, 2 + k) | (upper << 8)], byte_at(bytes, 34 + k)));
  }
}

void iq3_xxs(const std::byte* bytes, std::int8_t* codes, float* scales) {
  static const auto grid = spread(kIq3XxsGrid, 4, kThreeXxs);
  const float d = half_at(bytes, 0);
  for (std::size_t k = 0; k < 32; ++k) {
    const std::uint32_t word = double_word_at(bytes, 66 + k / 4 * 4);
    if (k % 2 == 0) scales[k / 2] = d * (0.5F + static_cast<float>(word >> 28)) * 0.5F;
    const Eight values = grid[byte_at(bytes, 2 + 2 * k)] | grid[byte_at(bytes, 3 + 2 * k)] << 32;
    put(codes, k, with_signs(values, even_signs(word >> (k % 4 * 7))));
  }
}

void iq3_s(const std::byte* bytes, std::int8_t* codes, float* scales) {
  static const auto grid = spread(kIq3SGrid, 4, kThreeS);
  const float d = half_at(bytes, 0);
  for (std::size_t k = 0; k < 32; ++k) {
    const int four = (byte_at(bytes, 106 + k / 8) >> (k / 4 % 2 * 4)) & 0xf;
    if (k % 2 == 0) scales[k / 2] = d * static_cast<float>(1 + 2 * four);
    const unsigned ninths = byte_at(bytes, 66 + k / 4) >> (k % 4 * 2);
    const Eight low = grid[byte_at(bytes, 2 + 2 * k) | ((ninths & 1U) << 8)];
    const Eight high = grid[byte_at(bytes, 3 + 2 * k) | ((ninths & 2U) << 7)];
    put(codes, k, with_signs(low | high << 32, byte_at(bytes, 74 + k)));
  }
}

// Eighths: 8 times a grid's -1, 0 or 1, and a delta of 1 or -1.
const std::array<std::array<Eight, 2048>, 2>& grids_of_eighths() {
  static const std::array<std::array<Eight, 2048>, 2> grids = {spread(kIq1Grid, 2, {-7, 1, 9, 0, 0, 0, 0, 0}),
                                                               spread(kIq1Grid, 2, {-9, -1, 7, 0, 0, 0, 0, 0})};
  return grids;
}

void iq1_s(const std::byte* bytes, std::int8_t* codes, float* scales) {
  const auto& grids = grids_of_eighths();
  const float d = half_at(bytes, 0);
  for (std::size_t k = 0; k < 32; ++k) {
    const unsigned word = word_at(bytes, 34 + k / 4 * 2);
    if (k % 2 == 0) scales[k / 2] = d * static_cast<float>(2 * ((word >> 12) & 7U) + 1) * 0.125F;
    const unsigned upper = (word >> (k % 4 * 3)) & 7U;
    put(codes, k, grids[word >> 15][byte_at(bytes, 2 + k) | (upper << 8)]);
  }
}

void iq1_m(const std::byte* bytes, std::int8_t* codes, float* scales) {
  const auto& grids = grids_of_eighths();
  std::uint16_t bits = 0;
  for (unsigned i = 0; i < 4; ++i)
    bits = static_cast<std::uint16_t>(bits | ((word_at(bytes, 48 + 2 * i) & 0xf000U) >> (12 - 4 * i)));
  const float d = half_to_float(bits);
  for (std::size_t k = 0; k < 32; ++k) {
    const unsigned three = (word_at(bytes, 48 + k / 8 * 2) >> (k / 2 % 4 * 3)) & 7U;
    if (k % 2 == 0) scales[k / 2] = d * static_cast<float>(2 * three + 1) * 0.125F;
    const unsigned nibble = (byte_at(bytes, 32 + k / 2) >> (k % 2 * 4)) & 0xfU;
    put(codes, k, grids[nibble >> 3][byte_at(bytes, k) | ((nibble & 7U) << 8)]);
  }
}

using Sixteen = std::uint8_t __attribute__((vector_size(16)));

// `digits` of each of `count` bytes, at most 16, the ones of a place `stride` after those of the place before: blocks.cpp, ternary(),
// where 3 times what is left of a byte reaches 256 from 86 on and 512 from 171 on.
void put_digits(const std::byte* bytes, std::size_t count, std::size_t digits, std::size_t stride, std::int8_t* to) {
  Sixteen left = {};
  std::memcpy(&left, bytes, count);
  for (std::size_t k = 0; k < digits; ++k) {
    const auto place = -1 - (left >= 86) - (left >= 171);  // a comparison that holds is -1
    std::memcpy(to + k * stride, &place, count);
    left += left + left;
  }
}

void tq1_0(const std::byte* bytes, std::int8_t* codes, float* scales) {
  std::fill_n(scales, 256 / kIntegerGroup, half_at(bytes, 52));
  put_digits(bytes, 16, 5, 32, codes);
  put_digits(bytes + 16, 16, 5, 32, codes + 16);
  put_digits(bytes + 32, 16, 5, 16, codes + 160);
  put_digits(bytes + 48, 4, 4, 4, codes + 240);
}

}  // namespace

IntegerDecoder integer_decoder(DType dtype) {
  switch (dtype) {
    case DType::kIQ1_S:
      return iq1_s;
    case DType::kIQ1_M:
      return iq1_m;
    case DType::kIQ2_XXS:
      return iq2_xxs;
    case DType::kIQ2_XS:
      return iq2_xs;
    case DType::kIQ2_S:
      return iq2_s;
    case DType::kIQ3_XXS:
      return iq3_xxs;
    case DType::kIQ3_S:
      return iq3_s;
    case DType::kTQ1_0:
      return tq1_0;
    default:
      return nullptr;
  }
}

}  // namespace plumb
