// What the compiler makes of plain C++ for the target's least processor.
#include "machine/kernels/loops.h"

namespace plumb::machine {
namespace {

constexpr int kLanes = 4;

struct Float {
  using Vector = float __attribute__((vector_size(4 * kLanes)));

  Float() {
    touch(x);
    touch(y);
  }
  static Vector zero() { return Vector{}; }
#if defined(__x86_64__)
  static void touch(Vector& v) {
    asm volatile("" : "+x"(v));
  }
#elif defined(__aarch64__)
  static void touch(Vector& v) {
    asm volatile("" : "+w"(v));
  }
#else
  static void touch(Vector& v) {
    asm volatile("" : "+m"(v));
  }
#endif
  void add(Vector& sum) const {
    sum += x * y;
  }

  Vector x = {1, 1, 1, 1};
  Vector y = {1e-9F, 1e-9F, 1e-9F, 1e-9F};
};

struct Words {
  using Type = std::uint64_t;
  static constexpr std::int64_t kBytes = 8;
  static Type zero() { return 0; }
  static Type load(const std::uint8_t* from) {
    Type value;
    __builtin_memcpy(&value, from, sizeof(value));
    return value;
  }
  static Type mix(Type a, Type b) { return a ^ b; }
  static std::uint64_t low(Type a) { return a; }
};

}  // namespace

const Kernels kPortable = {.name = "portable",
                           .fp32 = {run_peak<Float>, 2.0 * kLanes* kSums},
                           .bf16 = {},
                           .int8 = {},
                           .read_plain = read_plain<Words>,
                           .read_streams = read_streams<Words>};

}  // namespace plumb::machine
