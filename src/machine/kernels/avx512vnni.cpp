// AVX-512 VNNI: vpdpbusd on 512 bits.
#include <immintrin.h>

#include "machine/kernels/loops.h"

namespace plumb::machine {
namespace {

struct Bytes {
  using Vector = __m512i;

  Bytes() : x(_mm512_set1_epi8(1)), y(_mm512_set1_epi8(1)) {
    touch(x);
    touch(y);
  }
  static Vector zero() { return _mm512_setzero_si512(); }
  static void touch(Vector& v) { asm volatile("" : "+v"(v)); }
  void add(Vector& sum) const { sum = _mm512_dpbusd_epi32(sum, x, y); }

  Vector x;
  Vector y;
};

}  // namespace

const Kernels kAvx512Vnni = {.name = "avx512vnni",
                             .fp32 = {},
                             .bf16 = {},
                             .int8 = {run_peak<Bytes>, 2.0 * 64 * kSums},
                             .read_plain = nullptr,
                             .read_streams = nullptr};

}  // namespace plumb::machine
