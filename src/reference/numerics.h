// Where a profile rounds. Every kernel computes in double and rounds its results through one of the
// functions below, so a profile is nothing but their three answers; the order of accumulation is
// the same in all of them.
//   fp64     no rounding: the exact formula, for measuring everybody else's error
//   fp32     every value that the reference holds in a tensor is rounded to float32
//   hf-bf16  values that transformers holds in bfloat16 are rounded to bfloat16, those that it
//   holds in float32 (the inside of
//            norms, softmax, rotary tables, routers) to float32; specs/architectures.md, section
//            0.1
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

#include "core/float_bits.h"

namespace plumb {

enum class Precision : std::uint8_t { kFp64, kFp32, kHfBf16 };

constexpr std::string_view to_string(Precision precision) {
  constexpr std::string_view kNames[] = {"fp64", "fp32", "hf-bf16"};
  return kNames[static_cast<std::size_t>(precision)];
}

class Numerics {
 public:
  explicit constexpr Numerics(Precision precision) : precision_(precision) {}

  Precision precision() const { return precision_; }
  bool exact() const { return precision_ == Precision::kFp64; }

  // A value of the activation dtype: what one module hands to the next.
  double activation(double value) const {
    if (precision_ == Precision::kFp64) return value;
    const auto single = static_cast<float>(value);
    return precision_ == Precision::kFp32 ? single : round_to_bfloat16(single);
  }

  // A value that the reference holds in float32 whatever the activation dtype.
  double single(double value) const {
    return precision_ == Precision::kFp64 ? value : static_cast<float>(value);
  }

  // A parameter: from_pretrained casts it to the activation dtype.
  double parameter(double value) const {
    return precision_ == Precision::kHfBf16 ? activation(value) : value;
  }

 private:
  Precision precision_;
};

}  // namespace plumb
