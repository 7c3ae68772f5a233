// Element formats of safetensors to float64. OCP 8-bit Floating Point Specification 1.0 (E4M3,
// E5M2); OCP Microscaling Formats 1.0 (E8M0,
// E2M1).
#include "io/decode.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/checked.h"
#include "core/float_bits.h"
#include "io/gguf/blocks.h"

namespace plumb {
namespace {

constexpr float e4m3(std::uint8_t code) {
  const std::uint32_t exponent = (code >> 3) & 0xfU;
  const std::uint32_t mantissa = code & 7U;
  if (exponent == 0xf && mantissa == 7) {
    return std::bit_cast<float>(0x7fc00000U | (static_cast<std::uint32_t>(code & 0x80U) << 24));
  }
  const float magnitude = exponent == 0
                              ? static_cast<float>(mantissa) * 0x1p-9F
                              : std::bit_cast<float>(((exponent + 120U) << 23) | (mantissa << 20));
  return (code & 0x80U) != 0 ? -magnitude : magnitude;
}

constexpr float e5m2(std::uint8_t code) {
  return half_to_float(static_cast<std::uint16_t>(code << 8));
}

constexpr float e8m0(std::uint8_t code) {
  if (code == 0xff) return std::numeric_limits<float>::quiet_NaN();
  if (code == 0) return 0x1p-127F;
  return std::bit_cast<float>(static_cast<std::uint32_t>(code) << 23);
}

template <class F>
constexpr std::array<float, 256> table_of(F value) {
  std::array<float, 256> table{};
  for (std::size_t i = 0; i < table.size(); ++i)
    table[i] = value(static_cast<std::uint8_t>(i));
  return table;
}

constexpr auto kE4M3 = table_of(e4m3);
constexpr auto kE5M2 = table_of(e5m2);
constexpr auto kE8M0 = table_of(e8m0);

// Loads each element by memcpy: a file's tensors need not be aligned.
template <class Stored, class F>
void decode_each(std::span<const std::byte> bytes, std::span<double> out, F value) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    Stored stored{};
    std::memcpy(&stored, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    out[i] = static_cast<double>(value(stored));
  }
}

template <class Stored>
void decode_as(std::span<const std::byte> bytes, std::span<double> out) {
  decode_each<Stored>(bytes, out, [](Stored stored) { return stored; });
}

void decode_codes(const std::array<float, 256>& table, std::span<const std::byte> bytes,
                  std::span<double> out) {
  decode_each<std::uint8_t>(bytes, out, [&table](std::uint8_t code) { return table[code]; });
}

void decode_blocks(DType dtype, std::span<const std::byte> bytes, std::span<double> out) {
  const BlockDecoder decode_block = block_decoder(dtype);
  const auto size = static_cast<std::size_t>(info(dtype).block_bytes);
  const auto elements = static_cast<std::size_t>(info(dtype).block_elements);
  std::array<float, 256> values;  // the longest block
  for (std::size_t i = 0; i < out.size() / elements; ++i) {
    decode_block(bytes.data() + i * size, values.data());
    std::copy_n(values.begin(), elements, out.begin() + static_cast<std::ptrdiff_t>(i * elements));
  }
}

}  // namespace

std::optional<std::uint64_t> stored_size(DType dtype, std::int64_t elements) {
  const DTypeInfo& form = info(dtype);
  if (elements < 0 || elements % form.block_elements != 0) return std::nullopt;
  const auto bytes = checked_mul(elements / form.block_elements, form.block_bytes);
  return bytes ? narrow<std::uint64_t>(*bytes) : std::nullopt;
}

void decode(DType dtype, std::span<const std::byte> bytes, std::span<double> out) {
  switch (dtype) {
    case DType::kF64:
      return decode_as<double>(bytes, out);
    case DType::kF32:
      return decode_as<float>(bytes, out);
    case DType::kF16:
      return decode_each<std::uint16_t>(bytes, out, half_to_float);
    case DType::kBF16:
      return decode_each<std::uint16_t>(bytes, out, bfloat16_to_float);
    case DType::kF8E4M3:
      return decode_codes(kE4M3, bytes, out);
    case DType::kF8E5M2:
      return decode_codes(kE5M2, bytes, out);
    case DType::kF8E8M0:
      return decode_codes(kE8M0, bytes, out);
    case DType::kI64:
      return decode_as<std::int64_t>(bytes, out);
    case DType::kI32:
      return decode_as<std::int32_t>(bytes, out);
    case DType::kI16:
      return decode_as<std::int16_t>(bytes, out);
    case DType::kI8:
      return decode_as<std::int8_t>(bytes, out);
    case DType::kU64:
      return decode_as<std::uint64_t>(bytes, out);
    case DType::kU32:
      return decode_as<std::uint32_t>(bytes, out);
    case DType::kU16:
      return decode_as<std::uint16_t>(bytes, out);
    case DType::kU8:
    case DType::kBool:
      return decode_as<std::uint8_t>(bytes, out);
    default:
      return decode_blocks(dtype, bytes, out);
  }
}

float float8_e4m3_to_float(std::uint8_t code) {
  return kE4M3[code];
}
float float8_e5m2_to_float(std::uint8_t code) {
  return kE5M2[code];
}
float float8_e8m0_to_float(std::uint8_t code) {
  return kE8M0[code];
}

float float4_e2m1_to_float(std::uint8_t code) {
  constexpr std::array<float, 16> kE2M1 = {0,    0.5F,  1,  1.5F,  2,  3,  4,  6,
                                           -0.F, -0.5F, -1, -1.5F, -2, -3, -4, -6};
  return kE2M1[code & 0xfU];
}

}  // namespace plumb
