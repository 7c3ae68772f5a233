// AVX-512 BF16: vdpbf16ps on 512 bits.
#include <immintrin.h>

#include "machine/kernels/loops.h"

namespace plumb::machine {
namespace {

struct Pairs {
  using Vector = __m512;

  Pairs() : x(_mm512_cvtne2ps_pbh(_mm512_set1_ps(1.0F), _mm512_set1_ps(1.0F))), y(x) {
    asm volatile("" : "+v"(x));
    asm volatile("" : "+v"(y));
  }
  static Vector zero() { return _mm512_setzero_ps(); }
  static void touch(Vector& v) { asm volatile("" : "+v"(v)); }
  void add(Vector& sum) const { sum = _mm512_dpbf16_ps(sum, x, y); }

  __m512bh x;
  __m512bh y;
};

}  // namespace

const Kernels kAvx512Bf16 = {.name = "avx512bf16",
                             .fp32 = {},
                             .bf16 = {run_peak<Pairs>, 2.0 * 32 * kSums},
                             .int8 = {},
                             .read_plain = nullptr,
                             .read_streams = nullptr};

}  // namespace plumb::machine
