// Stored elements to numbers. Every value is exact: each format is narrower than float64, save
// 64-bit integers past 2^53.
//   decode(DType::kBF16, bytes, row);   // bytes.size() == stored_size(DType::kBF16, row.size())
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "core/dtype.h"

namespace plumb {

// The bytes that `elements` take; nothing when they are not whole blocks or the product does not
// fit.
std::optional<std::uint64_t> stored_size(DType dtype, std::int64_t elements);

// Decodes out.size() elements. The caller guarantees the size of `bytes` and whole blocks
// (stored_size).
void decode(DType dtype, std::span<const std::byte> bytes, std::span<double> out);

// Values of one-byte codes, as the OCP formats define them: E4M3 without infinities, E5M2, E8M0
// (2^(code - 127)), and E2M1 in the low four bits.
float float8_e4m3_to_float(std::uint8_t code);
float float8_e5m2_to_float(std::uint8_t code);
float float8_e8m0_to_float(std::uint8_t code);
float float4_e2m1_to_float(std::uint8_t code);

}  // namespace plumb
