// Blocks of GGUF's grids and ternary digits as whole numbers with scales, for engines that multiply integers. blocks.h has what they mean.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace plumb {

// Elements that share a scale.
inline constexpr std::size_t kIntegerGroup = 16;

// Of one block of 256: element i is codes[i] * scales[i / kIntegerGroup], equal to block_decoder()'s but for the rounding of float32.
using IntegerDecoder = void (*)(const std::byte* bytes, std::int8_t* codes, float* scales);

// IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, TQ1_0; nothing for other types.
IntegerDecoder integer_decoder(DType dtype);

}  // namespace plumb
