// The loops that the instruction sets' files share, over a vector type of their own. Everything has internal linkage: the same
// source is compiled with different flags.
#pragma once
#include <cstdint>

#include "machine/kernels/kernels.h"

namespace plumb::machine {
namespace {

// As many independent sums as hide the latency of one operation on two ports, and leave registers for the operands.
constexpr int kSums = 12;

// Step: a type with `Vector`, `Vector zero()`, and `void add(Vector& sum)`. Its `touch` makes a value opaque to the optimiser,
// so that equal sums are not computed once.
template <class Step>
void run_peak(std::int64_t iterations) {
  Step step;
  typename Step::Vector sums[kSums];
  for (auto& sum : sums) {
    sum = Step::zero();
    Step::touch(sum);
  }
  for (std::int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (auto& sum : sums)
      step.add(sum);
  }
  for (auto& sum : sums)
    Step::touch(sum);
}

// Vector: loads, and something cheap that depends on every load.
template <class Vector>
std::uint64_t read_plain(const std::uint8_t* from, std::int64_t bytes) {
  typename Vector::Type sums[4] = {Vector::zero(), Vector::zero(), Vector::zero(), Vector::zero()};
  for (std::int64_t at = 0; at < bytes; at += 4 * Vector::kBytes) {
    for (int i = 0; i < 4; ++i)
      sums[i] = Vector::mix(sums[i], Vector::load(from + at + i * Vector::kBytes));
  }
  return Vector::low(Vector::mix(Vector::mix(sums[0], sums[1]), Vector::mix(sums[2], sums[3])));
}

template <class Vector>
std::uint64_t read_streams(const std::uint8_t* from, std::int64_t bytes) {
  constexpr std::int64_t kLine = 64;
  const std::int64_t part = bytes / kStreams;
  typename Vector::Type sums[kStreams];
  for (auto& sum : sums)
    sum = Vector::zero();
  for (std::int64_t at = 0; at < part; at += kLine) {
#pragma GCC unroll 8
    for (int s = 0; s < kStreams; ++s) {
      const std::uint8_t* line = from + s * part + at;
      __builtin_prefetch(line + kAhead, 0, 3);
      for (std::int64_t i = 0; i < kLine; i += Vector::kBytes)
        sums[s] = Vector::mix(sums[s], Vector::load(line + i));
    }
  }
  for (int s = 1; s < kStreams; ++s)
    sums[0] = Vector::mix(sums[0], sums[s]);
  return Vector::low(sums[0]);
}

}  // namespace
}  // namespace plumb::machine
