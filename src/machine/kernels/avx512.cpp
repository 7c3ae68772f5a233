// AVX-512 F and BW.
#include <immintrin.h>

#include "machine/kernels/loops.h"

namespace plumb::machine {
namespace {

struct Float {
  using Vector = __m512;

  Float() : x(_mm512_set1_ps(1.0F)), y(_mm512_set1_ps(1e-9F)) {
    touch(x);
    touch(y);
  }
  static Vector zero() { return _mm512_setzero_ps(); }
  static void touch(Vector& v) { asm volatile("" : "+v"(v)); }
  void add(Vector& sum) const { sum = _mm512_fmadd_ps(x, y, sum); }

  Vector x;
  Vector y;
};

struct Bytes {
  using Vector = __m512i;

  Bytes() : x(_mm512_set1_epi8(1)), y(_mm512_set1_epi8(1)), ones(_mm512_set1_epi16(1)) {
    touch(x);
    touch(y);
    touch(ones);
  }
  static Vector zero() { return _mm512_setzero_si512(); }
  static void touch(Vector& v) { asm volatile("" : "+v"(v)); }
  void add(Vector& sum) {
    touch(x);  // or the products, which are all the same, are computed once
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(x, y), ones));
  }

  Vector x;
  Vector y;
  Vector ones;
};

struct Lines {
  using Type = __m512i;
  static constexpr std::int64_t kBytes = 64;
  static Type zero() { return _mm512_setzero_si512(); }
  static Type load(const std::uint8_t* from) { return _mm512_load_si512(from); }
  static Type mix(Type a, Type b) { return _mm512_xor_si512(a, b); }
  static std::uint64_t low(Type a) {
    return static_cast<std::uint64_t>(_mm512_reduce_add_epi64(a));
  }
};

}  // namespace

const Kernels kAvx512 = {.name = "avx512",
                         .fp32 = {run_peak<Float>, 2.0 * 16 * kSums},
                         .bf16 = {},
                         .int8 = {run_peak<Bytes>, 2.0 * 64 * kSums},
                         .read_plain = read_plain<Lines>,
                         .read_streams = read_streams<Lines>};

}  // namespace plumb::machine
