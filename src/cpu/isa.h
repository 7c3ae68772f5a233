// The instruction sets that the kernels are compiled for, and which of them this machine has.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace plumb::cpu {

// Each of x86-64 contains the ones above it.
enum class Isa : std::uint8_t {
  kPortable,      // what the compiler's target guarantees
  kAvx2,          // with FMA and F16C
  kAvx512,        // F, BW, DQ, VL
  kAvx512Vnni,    // sums of four products of bytes
  kAvx512Bf16,    // sums of two products of bfloat16
  kAmx,           // products of tiles of bytes and of bfloat16
  kNeon,          // of AArch64, with sums of four products of bytes
};

std::string_view to_string(Isa isa);

struct Kernels;
const Kernels& kernels_for(Isa isa);  // that this build has; of those that it has not, the portable ones

// Those that this machine and its operating system run, the best last.
std::vector<Isa> available_isas();

// "portable", "avx2", "avx512", "avx512vnni", "avx512bf16", "amx", "neon", or "auto" for the best; an error lists what this machine has.
Result<Isa> isa_from_name(std::string_view name);

}  // namespace plumb::cpu
