// The loops read what they say they read, on every instruction set that this machine has, and the meter yields numbers.
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "machine/ceilings.h"
#include "machine/features.h"

namespace plumb::machine {
namespace {

std::vector<const Kernels*> readers() {
  std::vector<const Kernels*> found = {&kPortable};
#if defined(__x86_64__)
  if (features().avx2) found.push_back(&kAvx2);
  if (features().avx512) found.push_back(&kAvx512);
#endif
  return found;
}

TEST(Machine, EveryByteIsRead) {
  constexpr std::int64_t kBytes = 2 * kReadStep;
  std::vector<std::uint8_t> aligned(kBytes + 64);
  void* place = aligned.data();
  std::size_t space = aligned.size();
  auto* bytes = static_cast<std::uint8_t*>(std::align(64, kBytes, place, space));
  for (std::int64_t i = 0; i < kBytes; ++i)
    bytes[i] = static_cast<std::uint8_t>(i * 31 + (i >> 7));
  for (const Kernels* kernels : readers()) {
    for (const Read read : {kernels->read_plain, kernels->read_streams}) {
      const std::uint64_t whole = read(bytes, kBytes);
      for (std::int64_t i = 0; i < kBytes; ++i) {
        bytes[i] ^= 0x10U;
        ASSERT_NE(read(bytes, kBytes), whole) << kernels->name << ", byte " << i;
        bytes[i] ^= 0x10U;
      }
    }
  }
}

TEST(Machine, CeilingsAreMeasuredOnAsManyThreadsAsAsked) {
  const CeilingMeter meter(std::size_t{4} << 20U);
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    const Ceilings found = meter.measure(pool);
    for (const double rate :
         {found.fp32, found.bf16, found.int8, found.memory, found.memory_plain}) {
      EXPECT_GT(rate, 1e6);
    }
  }
  for (const std::string& path :
       {meter.fp32_path(), meter.bf16_path(), meter.int8_path(), meter.memory_path()}) {
    EXPECT_FALSE(path.empty());
    EXPECT_NE(path, "none");
  }
}

TEST(Machine, TheProcessorHasANameAndCores) {
  EXPECT_FALSE(processor().model.empty());
  EXPECT_GE(processor().cores, 1);
  EXPECT_FALSE(to_string(features()).empty());
}

}  // namespace
}  // namespace plumb::machine
