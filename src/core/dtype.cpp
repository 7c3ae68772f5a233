// Names and sizes of the stored element formats.
#include "core/dtype.h"

#include <array>

namespace plumb {
namespace {

constexpr std::array kTable = {
    DTypeInfo{DType::kF64, "F64", 1, 8},
    DTypeInfo{DType::kF32, "F32", 1, 4},
    DTypeInfo{DType::kF16, "F16", 1, 2},
    DTypeInfo{DType::kBF16, "BF16", 1, 2},
    DTypeInfo{DType::kF8E4M3, "F8_E4M3", 1, 1},
    DTypeInfo{DType::kF8E5M2, "F8_E5M2", 1, 1},
    DTypeInfo{DType::kF8E8M0, "F8_E8M0", 1, 1},
    DTypeInfo{DType::kI64, "I64", 1, 8},
    DTypeInfo{DType::kI32, "I32", 1, 4},
    DTypeInfo{DType::kI16, "I16", 1, 2},
    DTypeInfo{DType::kI8, "I8", 1, 1},
    DTypeInfo{DType::kU64, "U64", 1, 8},
    DTypeInfo{DType::kU32, "U32", 1, 4},
    DTypeInfo{DType::kU16, "U16", 1, 2},
    DTypeInfo{DType::kU8, "U8", 1, 1},
    DTypeInfo{DType::kBool, "BOOL", 1, 1},
    DTypeInfo{DType::kQ4_0, "Q4_0", 32, 18},
    DTypeInfo{DType::kQ4_1, "Q4_1", 32, 20},
    DTypeInfo{DType::kQ5_0, "Q5_0", 32, 22},
    DTypeInfo{DType::kQ5_1, "Q5_1", 32, 24},
    DTypeInfo{DType::kQ8_0, "Q8_0", 32, 34},
    DTypeInfo{DType::kQ2_K, "Q2_K", 256, 84},
    DTypeInfo{DType::kQ3_K, "Q3_K", 256, 110},
    DTypeInfo{DType::kQ4_K, "Q4_K", 256, 144},
    DTypeInfo{DType::kQ5_K, "Q5_K", 256, 176},
    DTypeInfo{DType::kQ6_K, "Q6_K", 256, 210},
    DTypeInfo{DType::kIQ2_XXS, "IQ2_XXS", 256, 66},
    DTypeInfo{DType::kIQ2_XS, "IQ2_XS", 256, 74},
    DTypeInfo{DType::kIQ2_S, "IQ2_S", 256, 82},
    DTypeInfo{DType::kIQ3_XXS, "IQ3_XXS", 256, 98},
    DTypeInfo{DType::kIQ3_S, "IQ3_S", 256, 110},
    DTypeInfo{DType::kIQ1_S, "IQ1_S", 256, 50},
    DTypeInfo{DType::kIQ1_M, "IQ1_M", 256, 56},
    DTypeInfo{DType::kIQ4_NL, "IQ4_NL", 32, 18},
    DTypeInfo{DType::kIQ4_XS, "IQ4_XS", 256, 136},
    DTypeInfo{DType::kTQ1_0, "TQ1_0", 256, 54},
    DTypeInfo{DType::kTQ2_0, "TQ2_0", 256, 66},
    DTypeInfo{DType::kMXFP4, "MXFP4", 32, 17},
    DTypeInfo{DType::kNVFP4, "NVFP4", 64, 36},
};

constexpr bool table_is_in_order() {
  for (std::size_t i = 0; i < kTable.size(); ++i) {
    if (static_cast<std::size_t>(kTable[i].dtype) != i) return false;
  }
  return true;
}
static_assert(table_is_in_order());

}  // namespace

const DTypeInfo& info(DType dtype) {
  return kTable[static_cast<std::size_t>(dtype)];
}

std::string_view to_string(DType dtype) {
  return info(dtype).name;
}

std::optional<DType> dtype_from_name(std::string_view safetensors_name) {
  for (const DTypeInfo& entry : kTable) {
    if (entry.name == safetensors_name && entry.block_elements == 1) return entry.dtype;
  }
  return std::nullopt;
}

}  // namespace plumb
