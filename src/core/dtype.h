// The element formats that files store: plain types, one element at a time, and block formats,
// several elements in one block of bytes with their own scales. The table in dtype.cpp has each
// one's names and sizes; io/decode.h turns bytes into numbers.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

namespace plumb {

enum class DType : std::uint8_t {
  kF64,
  kF32,
  kF16,
  kBF16,
  kF8E4M3,
  kF8E5M2,
  kF8E8M0,
  kI64,
  kI32,
  kI16,
  kI8,
  kU64,
  kU32,
  kU16,
  kU8,
  kBool,
  kQ4_0,  // from here on, GGUF's blocks (ggml-common.h)
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kIQ2_XXS,
  kIQ2_XS,
  kIQ2_S,
  kIQ3_XXS,
  kIQ3_S,
  kIQ1_S,
  kIQ1_M,
  kIQ4_NL,
  kIQ4_XS,
  kTQ1_0,
  kTQ2_0,
  kMXFP4,
  kNVFP4,
};

struct DTypeInfo {
  DType dtype;
  std::string_view name;        // as safetensors writes it, or GGUF for blocks
  std::int64_t block_elements;  // 1 for plain types
  std::int64_t block_bytes;
};

const DTypeInfo& info(DType dtype);
std::string_view to_string(DType dtype);
std::optional<DType> dtype_from_name(std::string_view safetensors_name);

}  // namespace plumb
