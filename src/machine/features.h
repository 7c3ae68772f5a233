// What this machine's processor computes in one instruction, by CPUID, as far as the operating system lets programs use it.
#pragma once
#include <string>

namespace plumb::machine {

struct Features {
  bool avx2 = false;      // with FMA and F16C
  bool avx_vnni = false;  // sums of four products of bytes, 256 bits
  bool avx512 = false;    // F, BW, DQ, VL
  bool avx512_vnni = false;
  bool avx512_bf16 = false;
  bool amx_int8 = false;  // the kernel has granted the tiles
  bool amx_bf16 = false;
};

// Asks once; the request for AMX's tiles holds for the whole process.
const Features& features();

struct Processor {
  std::string model;  // as /proc/cpuinfo names it: "AMD EPYC", family and model behind it
  int cores;          // that this process may use
};

Processor processor();

// "avx2, avx512, avx512_vnni"; "none" where it has none of them.
std::string to_string(const Features& features);

}  // namespace plumb::machine
