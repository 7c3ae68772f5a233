// The instruction sets that the kernels are compiled for, and which of them this machine has.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace plumb::cpu {

// Each of x86-64 contains the ones above it, but that AVX-512 need not have AVX-VNNI.
enum class Isa : std::uint8_t {
  kPortable,      // what the compiler's target guarantees
  kAvx2,          // with FMA and F16C
  kAvxVnni,       // sums of four products of bytes and of two of words, in 256 bits: what clients have that lack AVX-512
  kAvx512,        // F, BW, DQ, VL
  kAvx512Vnni,    // the same sums in 512 bits
  kAvx512Bf16,    // sums of two products of bfloat16
  kAmx,           // products of tiles of bytes and of bfloat16
  kNeon,          // of AArch64, with sums of four products of bytes
};

std::string_view to_string(Isa isa);

struct Kernels;
// Null but in tests that link tests/avxvnni_evex.cpp: the kernels that stand in for AVX-VNNI's where the processor lacks it and has AVX-512's form
// of the same instructions. It is set before main() begins.
extern const Kernels* avxvnni_stand_in;
const Kernels& kernels_for(Isa isa);  // that this build has; of those that it has not, the portable ones

// Those that this machine and its operating system run, the best last.
std::vector<Isa> available_isas();

// "portable", "avx2", "avxvnni", "avx512", "avx512vnni", "avx512bf16", "amx", "neon", or "auto" for the best; an error lists what this machine has.
Result<Isa> isa_from_name(std::string_view name);

}  // namespace plumb::cpu
