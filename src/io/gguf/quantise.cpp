// Plain types and blocks of 32: quants.py of the `gguf` package, which equals ggml-quants.c bit for bit.
#include "io/gguf/quantise.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/float_bits.h"

namespace plumb {
namespace {

constexpr std::size_t kBlock = 32;

void put_half(float value, std::uint8_t* out) {
  const std::uint16_t bits = float_to_half(value);
  std::memcpy(out, &bits, sizeof(bits));
}

// The element that is largest in magnitude, with its sign; the first of equals.
float signed_extreme(const float* values) {
  return *std::max_element(values, values + kBlock,
                           [](float a, float b) { return std::fabs(a) < std::fabs(b); });
}

// Codes of x * inverse + offset, cut to whole numbers of [0, highest].
void truncate_codes(const float* values, float shift, float inverse, float offset, int highest,
                    std::uint8_t* codes) {
  for (std::size_t i = 0; i < kBlock; ++i) {
    const float scaled = (values[i] - shift) * inverse + offset;
    codes[i] = static_cast<std::uint8_t>(std::clamp(static_cast<int>(scaled), 0, highest));
  }
}

void pack_nibbles(const std::uint8_t* codes, std::uint8_t* out) {
  for (std::size_t i = 0; i < kBlock / 2; ++i) {
    out[i] = static_cast<std::uint8_t>((codes[i] & 0xf) | ((codes[i + kBlock / 2] & 0xf) << 4));
  }
}

void pack_fifth_bits(const std::uint8_t* codes, std::uint8_t* out) {
  std::uint32_t bits = 0;
  for (std::size_t i = 0; i < kBlock; ++i)
    bits |= static_cast<std::uint32_t>(codes[i] >> 4) << i;
  std::memcpy(out, &bits, sizeof(bits));
}

float inverse_of(float scale) {
  return scale != 0 ? 1.0F / scale : 0.0F;
}

void encode_q8_0(const float* values, std::uint8_t* out) {
  const float d = std::fabs(signed_extreme(values)) / 127;
  const float inverse = inverse_of(d);
  put_half(d, out);
  for (std::size_t i = 0; i < kBlock; ++i) {
    out[2 + i] =
        static_cast<std::uint8_t>(static_cast<std::int8_t>(std::round(values[i] * inverse)));
  }
}

void encode_q4_0(const float* values, std::uint8_t* out) {
  std::uint8_t codes[kBlock];
  const float d = signed_extreme(values) / -8;
  put_half(d, out);
  truncate_codes(values, 0, inverse_of(d), 8.5F, 15, codes);
  pack_nibbles(codes, out + 2);
}

void encode_q5_0(const float* values, std::uint8_t* out) {
  std::uint8_t codes[kBlock];
  const float d = signed_extreme(values) / -16;
  put_half(d, out);
  truncate_codes(values, 0, inverse_of(d), 16.5F, 31, codes);
  pack_fifth_bits(codes, out + 2);
  pack_nibbles(codes, out + 6);
}

// Q4_1 and Q5_1: from the smallest element in steps of d; the codes of Q5_1 go on in pack_fifth_bits.
void encode_from_minimum(const float* values, int highest, std::uint8_t* codes, std::uint8_t* out) {
  const auto [low, high] = std::minmax_element(values, values + kBlock);
  const float d = (*high - *low) / static_cast<float>(highest);
  put_half(d, out);
  put_half(*low, out + 2);
  truncate_codes(values, *low, inverse_of(d), 0.5F, highest, codes);
}

void encode_q4_1(const float* values, std::uint8_t* out) {
  std::uint8_t codes[kBlock];
  encode_from_minimum(values, 15, codes, out);
  pack_nibbles(codes, out + 4);
}

void encode_q5_1(const float* values, std::uint8_t* out) {
  std::uint8_t codes[kBlock];
  encode_from_minimum(values, 31, codes, out);
  pack_fifth_bits(codes, out + 4);
  pack_nibbles(codes, out + 8);
}

using BlockEncoder = void (*)(const float* values, std::uint8_t* out);

BlockEncoder block_encoder(DType dtype) {
  switch (dtype) {
    case DType::kQ8_0:
      return encode_q8_0;
    case DType::kQ4_0:
      return encode_q4_0;
    case DType::kQ4_1:
      return encode_q4_1;
    case DType::kQ5_0:
      return encode_q5_0;
    case DType::kQ5_1:
      return encode_q5_1;
    case DType::kQ4_K:
      return encode_q4_k;
    case DType::kQ5_K:
      return encode_q5_k;
    case DType::kQ6_K:
      return encode_q6_k;
    default:
      return nullptr;
  }
}

template <class F>
void store_words(std::span<const float> row, std::byte* out, F bits_of) {
  for (std::size_t i = 0; i < row.size(); ++i) {
    const std::uint16_t bits = bits_of(row[i]);
    std::memcpy(out + i * sizeof(bits), &bits, sizeof(bits));
  }
}

}  // namespace

bool can_quantise(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16 ||
         dtype == DType::kI32 || block_encoder(dtype) != nullptr;
}

void quantise_row(DType dtype, std::span<const float> row, std::span<std::byte> out) {
  if (dtype == DType::kF32) {
    std::memcpy(out.data(), row.data(), row.size_bytes());
  } else if (dtype == DType::kF16) {
    store_words(row, out.data(), float_to_half);
  } else if (dtype == DType::kBF16) {
    store_words(row, out.data(), float_to_bfloat16);
  } else if (dtype == DType::kI32) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      const auto value = static_cast<std::int32_t>(row[i]);
      std::memcpy(out.data() + i * sizeof(value), &value, sizeof(value));
    }
  } else if (const BlockEncoder encode = block_encoder(dtype)) {
    const auto elements = static_cast<std::size_t>(info(dtype).block_elements);
    const auto size = static_cast<std::size_t>(info(dtype).block_bytes);
    auto* bytes = reinterpret_cast<std::uint8_t*>(out.data());
    for (std::size_t i = 0; i < row.size() / elements; ++i)
      encode(row.data() + i * elements, bytes + i * size);
  }
}

}  // namespace plumb
