// Blocks of 32 and 64 elements, the ternary types, and the table of all decoders. Layouts: ggml-common.h; arithmetic:
// quants.py of the `gguf` package.
#include "io/gguf/blocks.h"

#include <array>
#include <bit>

#include "io/decode.h"
#include "io/gguf/block_bytes.h"

namespace plumb {
namespace {

// E2M1 times two, which pairs with scales times one half.
constexpr std::array<float, 16> kDoubledE2M1 = {0, 1,  2,  3,  4,  6,  8,  12,
                                                0, -1, -2, -3, -4, -6, -8, -12};

void decode_q4_0(const std::byte* bytes, float* out) {  // half d; 16 bytes of nibbles
  const float d = half_at(bytes, 0);
  for (std::size_t i = 0; i < 32; ++i)
    out[i] = d * static_cast<float>(nibble_at(bytes + 2, i) - 8);
}

void decode_q4_1(const std::byte* bytes, float* out) {  // half d, half m; nibbles
  const float d = half_at(bytes, 0);
  const float m = half_at(bytes, 2);
  for (std::size_t i = 0; i < 32; ++i)
    out[i] = d * static_cast<float>(nibble_at(bytes + 4, i)) + m;
}

// Five bits: a nibble, and bit i of a word as the fifth.
int five_bits(const std::byte* bytes, std::size_t high, std::size_t nibbles, std::size_t i) {
  return nibble_at(bytes + nibbles, i) |
         static_cast<int>(((double_word_at(bytes, high) >> i) & 1U) << 4);
}

void decode_q5_0(const std::byte* bytes, float* out) {  // half d; 4 bytes of high bits; nibbles
  const float d = half_at(bytes, 0);
  for (std::size_t i = 0; i < 32; ++i)
    out[i] = d * static_cast<float>(five_bits(bytes, 2, 6, i) - 16);
}

void decode_q5_1(const std::byte* bytes,
                 float* out) {  // half d, half m; 4 bytes of high bits; nibbles
  const float d = half_at(bytes, 0);
  const float m = half_at(bytes, 2);
  for (std::size_t i = 0; i < 32; ++i)
    out[i] = d * static_cast<float>(five_bits(bytes, 4, 8, i)) + m;
}

void decode_q8_0(const std::byte* bytes, float* out) {  // half d; 32 signed bytes
  const float d = half_at(bytes, 0);
  for (std::size_t i = 0; i < 32; ++i)
    out[i] = static_cast<float>(signed_byte_at(bytes, 2 + i)) * d;
}

// A ternary digit as quants.py extracts it: the byte, times 3^k modulo 256, holds the next digit in its upper part.
float ternary(std::uint8_t packed, unsigned power) {
  const auto shifted = static_cast<std::uint8_t>(packed * power);
  return static_cast<float>(((shifted * 3) >> 8) - 1);
}

void decode_tq1_0(const std::byte* bytes,
                  float* out) {  // 32 + 16 bytes of five digits, 4 of four; half d
  constexpr std::array<unsigned, 5> kPowers = {1, 3, 9, 27, 81};
  const float d = half_at(bytes, 52);
  for (std::size_t k = 0; k < 5; ++k) {
    for (std::size_t i = 0; i < 32; ++i)
      *out++ = d * ternary(byte_at(bytes, i), kPowers[k]);
  }
  for (std::size_t k = 0; k < 5; ++k) {
    for (std::size_t i = 0; i < 16; ++i)
      *out++ = d * ternary(byte_at(bytes, 32 + i), kPowers[k]);
  }
  for (std::size_t k = 0; k < 4; ++k) {
    for (std::size_t i = 0; i < 4; ++i)
      *out++ = d * ternary(byte_at(bytes, 48 + i), kPowers[k]);
  }
}

void decode_tq2_0(const std::byte* bytes, float* out) {  // 64 bytes of four digits; half d
  const float d = half_at(bytes, 64);
  for (std::size_t part = 0; part < 2; ++part) {
    for (std::size_t k = 0; k < 4; ++k) {
      for (std::size_t i = 0; i < 32; ++i) {
        *out++ = d * static_cast<float>(((byte_at(bytes, part * 32 + i) >> (2 * k)) & 3) - 1);
      }
    }
  }
}

void decode_mxfp4(const std::byte* bytes, float* out) {  // E8M0 scale; nibbles
  const std::uint8_t e = byte_at(bytes, 0);
  // Half of 2^(e - 127), code 255 included: quants.py, e8m0_to_fp32_half.
  const float d =
      std::bit_cast<float>(e < 2 ? 0x00200000U << e : static_cast<std::uint32_t>(e - 1) << 23);
  for (std::size_t i = 0; i < 32; ++i) {
    out[i] = d * kDoubledE2M1[static_cast<std::size_t>(nibble_at(bytes + 1, i))];
  }
}

void decode_nvfp4(const std::byte* bytes,
                  float* out) {  // 4 E4M3 scales without sign; 4 groups of 8 bytes of nibbles
  for (std::size_t group = 0; group < 4; ++group) {
    const std::uint8_t code = byte_at(bytes, group);
    const auto magnitude = static_cast<std::uint8_t>(code & 0x7fU);
    // ggml reads 0x7f as 0; with the sign bit, the code has the value 480 that E4M3 would give it if it were no NaN.
    const float scale =
        magnitude == 0x7f ? (code == 0x7f ? 0.0F : 480.0F) : float8_e4m3_to_float(magnitude);
    const float d = scale * 0.5F;
    for (std::size_t i = 0; i < 16; ++i) {
      const std::uint8_t packed = byte_at(bytes, 4 + group * 8 + i % 8);
      *out++ = d * kDoubledE2M1[static_cast<std::size_t>((packed >> (i / 8 * 4)) & 0xf)];
    }
  }
}

}  // namespace

BlockDecoder block_decoder(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return decode_q4_0;
    case DType::kQ4_1:
      return decode_q4_1;
    case DType::kQ5_0:
      return decode_q5_0;
    case DType::kQ5_1:
      return decode_q5_1;
    case DType::kQ8_0:
      return decode_q8_0;
    case DType::kQ2_K:
      return decode_q2_k;
    case DType::kQ3_K:
      return decode_q3_k;
    case DType::kQ4_K:
      return decode_q4_k;
    case DType::kQ5_K:
      return decode_q5_k;
    case DType::kQ6_K:
      return decode_q6_k;
    case DType::kIQ2_XXS:
      return decode_iq2_xxs;
    case DType::kIQ2_XS:
      return decode_iq2_xs;
    case DType::kIQ2_S:
      return decode_iq2_s;
    case DType::kIQ3_XXS:
      return decode_iq3_xxs;
    case DType::kIQ3_S:
      return decode_iq3_s;
    case DType::kIQ1_S:
      return decode_iq1_s;
    case DType::kIQ1_M:
      return decode_iq1_m;
    case DType::kIQ4_NL:
      return decode_iq4_nl;
    case DType::kIQ4_XS:
      return decode_iq4_xs;
    case DType::kTQ1_0:
      return decode_tq1_0;
    case DType::kTQ2_0:
      return decode_tq2_0;
    case DType::kMXFP4:
      return decode_mxfp4;
    case DType::kNVFP4:
      return decode_nvfp4;
    default:
      return nullptr;
  }
}

}  // namespace plumb
