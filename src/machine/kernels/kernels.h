// Loops that do nothing but one thing as fast as an instruction set can. Each instruction set's file is compiled with its own
// flags and fills one table; which are called is decided at run time (machine/features.h).
//
// Only plain C types cross this border: a function of the standard library that is compiled with AVX-512 in one of these files
// could be the copy that the linker keeps for the whole program.
#pragma once
#include <cstdint>

namespace plumb::machine {

// One iteration is `operations` multiplications and additions. The result is of no use, but forces the computation.
struct Peak {
  void (*run)(std::int64_t iterations);
  double operations;
};

// Reads `bytes` (a multiple of kReadStep) from `from`, which is aligned to 64; yields a sum of no use.
using Read = std::uint64_t (*)(const std::uint8_t* from, std::int64_t bytes);

inline constexpr int kStreams = 8;
inline constexpr std::int64_t kAhead = 1024;  // bytes; how far ahead a stream is prefetched
inline constexpr std::int64_t kReadStep = std::int64_t{kStreams} * 1024;

struct Kernels {
  const char* name;
  Peak fp32;          // null where the instruction set adds nothing to the ones before it
  Peak bf16;          // products of bfloat16 pairs
  Peak int8;          // products of bytes
  Read read_plain;    // one stream
  Read read_streams;  // kStreams streams at once, each prefetched kAhead
};

extern const Kernels kPortable;
extern const Kernels kAvx2;
extern const Kernels kAvxVnni;
extern const Kernels kAvx512;
extern const Kernels kAvx512Vnni;
extern const Kernels kAvx512Bf16;
extern const Kernels kAmx;

}  // namespace plumb::machine
