// AVX-VNNI: vpdpbusd on 256 bits.
#include <immintrin.h>

#include "machine/kernels/loops.h"

namespace plumb::machine {
namespace {

struct Bytes {
  using Vector = __m256i;

  Bytes() : x(_mm256_set1_epi8(1)), y(_mm256_set1_epi8(1)) {
    touch(x);
    touch(y);
  }
  static Vector zero() { return _mm256_setzero_si256(); }
  static void touch(Vector& v) { asm volatile("" : "+x"(v)); }
  void add(Vector& sum) const { sum = _mm256_dpbusd_avx_epi32(sum, x, y); }

  Vector x;
  Vector y;
};

}  // namespace

const Kernels kAvxVnni = {.name = "avxvnni",
                          .fp32 = {},
                          .bf16 = {},
                          .int8 = {run_peak<Bytes>, 2.0 * 32 * kSums},
                          .read_plain = nullptr,
                          .read_streams = nullptr};

}  // namespace plumb::machine
