// I-quants: codes that select entries of fixed grids. Layouts: ggml-common.h; arithmetic: quants.py.
#include <array>
#include <bit>

#include "io/gguf/block_bytes.h"
#include "io/gguf/blocks.h"
#include "io/gguf/grids.h"

namespace plumb {
namespace {

constexpr std::array<float, 4> kGrid2 = {8, 25, 43, 0};  // code 3 does not occur in the grids
constexpr std::array<float, 4> kGrid1 = {-1, 0, 1, 0};
constexpr std::array<float, 8> kGrid3Xxs = {4, 12, 20, 28, 36, 44, 52, 62};
constexpr std::array<float, 8> kGrid3S = {1, 3, 5, 7, 9, 11, 13, 15};
constexpr std::array<float, 16> kIq4 = {-127, -104, -83, -65, -49, -35, -22, -10,
                                        1,    13,   25,  38,  53,  69,  89,  113};
constexpr float kDelta1 = 0.125F;

// Seven sign bits; the eighth makes the number of minus signs even.
std::uint8_t even_signs(std::uint32_t seven) {
  seven &= 0x7fU;
  return static_cast<std::uint8_t>(seven |
                                   (static_cast<std::uint32_t>(std::popcount(seven) & 1) << 7));
}

// Eight elements of a grid of 2-bit codes: (scale * value) * sign.
float* put8(float* out, float scale, std::uint16_t entry, std::uint8_t signs) {
  for (unsigned i = 0; i < 8; ++i) {
    const float value = scale * kGrid2[(entry >> (2 * i)) & 3U];
    *out++ = ((signs >> i) & 1U) != 0 ? -value : value;
  }
  return out;
}

// Four elements of a grid of 4-bit codes; `signs` has theirs in its low bits.
float* put4(float* out, float scale, const std::array<float, 8>& values, std::uint16_t entry,
            unsigned signs) {
  for (unsigned i = 0; i < 4; ++i) {
    const float value = scale * values[(entry >> (4 * i)) & 7U];
    *out++ = ((signs >> i) & 1U) != 0 ? -value : value;
  }
  return out;
}

float* put_iq1(float* out, float scale, std::uint16_t entry, float delta) {
  for (unsigned i = 0; i < 8; ++i)
    *out++ = scale * (kGrid1[(entry >> (2 * i)) & 3U] + delta);
  return out;
}

}  // namespace

// half d; 8 groups of 32: four grid bytes, then four times seven sign bits and a scale of four.
void decode_iq2_xxs(const std::byte* bytes, float* out) {
  const float d = half_at(bytes, 0);
  for (std::size_t group = 0; group < 8; ++group) {
    const std::byte* grids = bytes + 2 + group * 8;
    const std::uint32_t word = double_word_at(grids, 4);
    const float scale = d * (0.5F + static_cast<float>(word >> 28)) * 0.25F;
    for (unsigned k = 0; k < 4; ++k) {
      out = put8(out, scale, kIq2XxsGrid[byte_at(grids, k)], even_signs(word >> (7 * k)));
    }
  }
}

// half d; 32 words of nine grid bits and seven sign bits; 8 bytes of scales for groups of 16.
void decode_iq2_xs(const std::byte* bytes, float* out) {
  const float d = half_at(bytes, 0);
  for (std::size_t k = 0; k < 32; ++k) {
    const std::uint16_t word = word_at(bytes, 2 + 2 * k);
    const int four = (byte_at(bytes, 66 + k / 4) >> (k / 2 % 2 * 4)) & 0xf;
    const float scale = d * (0.5F + static_cast<float>(four)) * 0.25F;
    out = put8(out, scale, kIq2XsGrid[word & 511U],
               even_signs(static_cast<std::uint32_t>(word >> 9)));
  }
}

// half d; 32 grid bytes; 32 sign bytes; 8 bytes of upper grid bits; 8 bytes of scales for groups of 16.
void decode_iq2_s(const std::byte* bytes, float* out) {
  const float d = half_at(bytes, 0);
  for (std::size_t k = 0; k < 32; ++k) {
    const unsigned upper = (byte_at(bytes, 66 + k / 4) >> (k % 4 * 2)) & 3U;
    const int four = (byte_at(bytes, 74 + k / 4) >> (k / 2 % 2 * 4)) & 0xf;
    const float scale = d * (0.5F + static_cast<float>(four)) * 0.25F;
    out = put8(out, scale, kIq2SGrid[byte_at(bytes, 2 + k) | (upper << 8)], byte_at(bytes, 34 + k));
  }
}

// half d; 64 grid bytes; 8 words of four times seven sign bits and a scale of four.
void decode_iq3_xxs(const std::byte* bytes, float* out) {
  const float d = half_at(bytes, 0);
  for (std::size_t k = 0; k < 64; ++k) {
    const std::uint32_t word = double_word_at(bytes, 66 + k / 8 * 4);
    const float scale = d * (0.5F + static_cast<float>(word >> 28)) * 0.5F;
    const std::uint8_t signs = even_signs(word >> (k / 2 % 4 * 7));
    out = put4(out, scale, kGrid3Xxs, kIq3XxsGrid[byte_at(bytes, 2 + k)],
               static_cast<unsigned>(signs >> (k % 2 * 4)));
  }
}

// half d; 64 grid bytes; 8 bytes of ninth grid bits; 32 sign bytes; 4 bytes of scales for groups of 32.
void decode_iq3_s(const std::byte* bytes, float* out) {
  const float d = half_at(bytes, 0);
  for (std::size_t k = 0; k < 64; ++k) {
    const int four = (byte_at(bytes, 106 + k / 16) >> (k / 8 % 2 * 4)) & 0xf;
    const float scale = d * static_cast<float>(1 + 2 * four);
    const unsigned ninth = (byte_at(bytes, 66 + k / 8) >> (k % 8)) & 1U;
    out = put4(out, scale, kGrid3S, kIq3SGrid[byte_at(bytes, 2 + k) | (ninth << 8)],
               static_cast<unsigned>(byte_at(bytes, 74 + k / 2) >> (k % 2 * 4)));
  }
}

// half d; 32 grid bytes; 8 words for groups of 32: four times three upper grid bits, a scale of three, the sign of delta.
void decode_iq1_s(const std::byte* bytes, float* out) {
  const float d = half_at(bytes, 0);
  for (std::size_t k = 0; k < 32; ++k) {
    const unsigned word = word_at(bytes, 34 + k / 4 * 2);
    const float scale = d * static_cast<float>(2 * ((word >> 12) & 7U) + 1);
    const unsigned upper = (word >> (k % 4 * 3)) & 7U;
    out = put_iq1(out, scale, kIq1Grid[byte_at(bytes, 2 + k) | (upper << 8)],
                  (word & 0x8000U) != 0 ? -kDelta1 : kDelta1);
  }
}

// 32 grid bytes; 16 bytes of three upper grid bits and the sign of delta; 4 words of four scales of three bits, whose upper
// nibbles together are the half d.
void decode_iq1_m(const std::byte* bytes, float* out) {
  std::uint16_t bits = 0;
  for (unsigned i = 0; i < 4; ++i) {
    bits =
        static_cast<std::uint16_t>(bits | ((word_at(bytes, 48 + 2 * i) & 0xf000U) >> (12 - 4 * i)));
  }
  const float d = half_to_float(bits);
  for (std::size_t k = 0; k < 32; ++k) {
    const unsigned three = (word_at(bytes, 48 + k / 8 * 2) >> (k / 2 % 4 * 3)) & 7U;
    const float scale = d * static_cast<float>(2 * three + 1);
    const unsigned nibble = (byte_at(bytes, 32 + k / 2) >> (k % 2 * 4)) & 0xfU;
    out = put_iq1(out, scale, kIq1Grid[byte_at(bytes, k) | ((nibble & 7U) << 8)],
                  (nibble & 8U) != 0 ? -kDelta1 : kDelta1);
  }
}

// half d; 16 bytes of nibbles.
void decode_iq4_nl(const std::byte* bytes, float* out) {
  const float d = half_at(bytes, 0);
  for (std::size_t i = 0; i < 32; ++i)
    out[i] = d * kIq4[static_cast<std::size_t>(nibble_at(bytes + 2, i))];
}

// half d; a word of eight upper pairs of scale bits; 4 bytes of lower nibbles; 128 bytes of nibbles. Groups of 32.
void decode_iq4_xs(const std::byte* bytes, float* out) {
  const float d = half_at(bytes, 0);
  const unsigned upper = word_at(bytes, 2);
  for (std::size_t group = 0; group < 8; ++group) {
    const int low = (byte_at(bytes, 4 + group / 2) >> (group % 2 * 4)) & 0xf;
    const int high = static_cast<int>((upper >> (2 * group)) & 3U);
    const float scale = d * static_cast<float>((low | (high << 4)) - 32);
    for (std::size_t i = 0; i < 32; ++i) {
      *out++ = scale * kIq4[static_cast<std::size_t>(nibble_at(bytes + 8 + group * 16, i))];
    }
  }
}

}  // namespace plumb
