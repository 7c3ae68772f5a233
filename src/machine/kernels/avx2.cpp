// AVX2 and FMA. Bytes are multiplied in pairs (vpmaddubsw), the pairs' sums added in pairs (vpmaddwd) and those to the total.
#include <immintrin.h>

#include "machine/kernels/loops.h"

namespace plumb::machine {
namespace {

struct Float {
  using Vector = __m256;

  Float() : x(_mm256_set1_ps(1.0F)), y(_mm256_set1_ps(1e-9F)) {
    touch(x);
    touch(y);
  }
  static Vector zero() { return _mm256_setzero_ps(); }
  static void touch(Vector& v) { asm volatile("" : "+x"(v)); }
  void add(Vector& sum) const { sum = _mm256_fmadd_ps(x, y, sum); }

  Vector x;
  Vector y;
};

struct Bytes {
  using Vector = __m256i;

  Bytes() : x(_mm256_set1_epi8(1)), y(_mm256_set1_epi8(1)), ones(_mm256_set1_epi16(1)) {
    touch(x);
    touch(y);
    touch(ones);
  }
  static Vector zero() { return _mm256_setzero_si256(); }
  static void touch(Vector& v) { asm volatile("" : "+x"(v)); }
  void add(Vector& sum) {
    touch(x);  // or the products, which are all the same, are computed once
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(x, y), ones));
  }

  Vector x;
  Vector y;
  Vector ones;
};

struct Lines {
  using Type = __m256i;
  static constexpr std::int64_t kBytes = 32;
  static Type zero() { return _mm256_setzero_si256(); }
  static Type load(const std::uint8_t* from) {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(from));
  }
  static Type mix(Type a, Type b) { return _mm256_xor_si256(a, b); }
  static std::uint64_t low(Type a) {
    return static_cast<std::uint64_t>(_mm256_extract_epi64(a, 0) ^ _mm256_extract_epi64(a, 1) ^
                                      _mm256_extract_epi64(a, 2) ^ _mm256_extract_epi64(a, 3));
  }
};

}  // namespace

const Kernels kAvx2 = {.name = "avx2",
                       .fp32 = {run_peak<Float>, 2.0 * 8 * kSums},
                       .bf16 = {},
                       .int8 = {run_peak<Bytes>, 2.0 * 32 * kSums},
                       .read_plain = read_plain<Lines>,
                       .read_streams = read_streams<Lines>};

}  // namespace plumb::machine
