// K-quants: 256 elements in 8 or 16 groups, each with its own small scale. Layouts: ggml-common.h; arithmetic: quants.py.
#include "io/gguf/block_bytes.h"
#include "io/gguf/blocks.h"
#include "io/gguf/kquant_scales.h"

namespace plumb {

// 16 bytes of scale (low nibble) and minimum (high); 64 bytes of 2-bit codes; half d, half dmin. Groups of 16.
void decode_q2_k(const std::byte* bytes, float* out) {
  const float d = half_at(bytes, 80);
  const float dmin = half_at(bytes, 82);
  for (std::size_t group = 0; group < 16; ++group) {
    const std::uint8_t scales = byte_at(bytes, group);
    const float scale = d * static_cast<float>(scales & 0xf);
    const float minimum = dmin * static_cast<float>(scales >> 4);
    const std::byte* codes = bytes + 16 + group / 8 * 32 + group % 2 * 16;
    const std::size_t shift = group / 2 % 4 * 2;
    for (std::size_t i = 0; i < 16; ++i) {
      const int code = (byte_at(codes, i) >> shift) & 3;
      *out++ = scale * static_cast<float>(code) - minimum;
    }
  }
}

// 32 bytes of high bits; 64 bytes of 2-bit codes; 12 bytes of 6-bit scales; half d. Groups of 16.
void decode_q3_k(const std::byte* bytes, float* out) {
  const float d = half_at(bytes, 108);
  for (std::size_t group = 0; group < 16; ++group) {
    const int low = (byte_at(bytes, 96 + group % 8) >> (group / 8 * 4)) & 0xf;
    const int high = (byte_at(bytes, 104 + group % 4) >> (group / 4 * 2)) & 3;
    const float scale = d * static_cast<float>((low | (high << 4)) - 32);
    const std::byte* codes = bytes + 32 + group / 8 * 32 + group % 2 * 16;
    const std::byte* high_bits = bytes + group % 2 * 16;
    const std::size_t shift = group / 2 % 4 * 2;
    for (std::size_t i = 0; i < 16; ++i) {
      const int code = (byte_at(codes, i) >> shift) & 3;
      const int is_high = (byte_at(high_bits, i) >> (group / 2)) & 1;
      *out++ = scale * static_cast<float>(code + 4 * is_high - 4);
    }
  }
}

// half d, half dmin; 12 bytes of scales and minima; 128 bytes of nibbles. Groups of 32.
void decode_q4_k(const std::byte* bytes, float* out) {
  const float d = half_at(bytes, 0);
  const float dmin = half_at(bytes, 2);
  for (std::size_t group = 0; group < 8; ++group) {
    const ScaleAndMinimum six = unpack_six_bits(bytes + 4, group);
    const float scale = d * static_cast<float>(six.scale);
    const float minimum = dmin * static_cast<float>(six.minimum);
    for (std::size_t i = 0; i < 32; ++i) {
      const int code = (byte_at(bytes, 16 + group / 2 * 32 + i) >> (group % 2 * 4)) & 0xf;
      *out++ = scale * static_cast<float>(code) - minimum;
    }
  }
}

// half d, half dmin; 12 bytes of scales and minima; 32 bytes of fifth bits; 128 bytes of nibbles. Groups of 32.
void decode_q5_k(const std::byte* bytes, float* out) {
  const float d = half_at(bytes, 0);
  const float dmin = half_at(bytes, 2);
  for (std::size_t group = 0; group < 8; ++group) {
    const ScaleAndMinimum six = unpack_six_bits(bytes + 4, group);
    const float scale = d * static_cast<float>(six.scale);
    const float minimum = dmin * static_cast<float>(six.minimum);
    for (std::size_t i = 0; i < 32; ++i) {
      const int low = (byte_at(bytes, 48 + group / 2 * 32 + i) >> (group % 2 * 4)) & 0xf;
      const int high = (byte_at(bytes, 16 + i) >> group) & 1;
      *out++ = scale * static_cast<float>(low | (high << 4)) - minimum;
    }
  }
}

// 128 bytes of low nibbles; 64 bytes of high pairs of bits; 16 signed scales; half d. Groups of 16.
void decode_q6_k(const std::byte* bytes, float* out) {
  const float d = half_at(bytes, 208);
  for (std::size_t i = 0; i < 256; ++i) {
    const std::size_t half = i / 128;
    const std::size_t j = i % 128;
    const float scale = d * static_cast<float>(signed_byte_at(bytes, 192 + i / 16));
    const int low = (byte_at(bytes, half * 64 + j % 64) >> (j / 64 * 4)) & 0xf;
    const int high = (byte_at(bytes, 128 + half * 32 + j % 32) >> (j / 32 * 2)) & 3;
    out[i] = scale * static_cast<float>((low | (high << 4)) - 32);
  }
}

}  // namespace plumb
