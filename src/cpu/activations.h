// What the activations are where they meet a weight.
#pragma once
#include <cstdint>
#include <string_view>

#include "core/result.h"

namespace plumb::cpu {

// What meets a weight in a product (docs/numerics.md).
enum class Activations : std::uint8_t {
  kExact,  // float32
  kAuto,   // int8 with a scale for each 64 channels where the weight is quantised, codes of 16 bits with a scale for each 128 where it is
           // bfloat16 or half and the instruction set is AVX2 or more and has no tiles for it, float32 elsewhere
  kShort,  // as kAuto, and bfloat16 where the weight is bfloat16 and there are tiles
};

// "exact", "auto" or "short"; an error lists them.
Result<Activations> activations_from_name(std::string_view name);
std::string_view to_string(Activations activations);

}  // namespace plumb::cpu
