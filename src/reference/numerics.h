// Where a profile rounds. Every kernel computes in double and rounds its results through the functions below; the order of
// accumulation is the same in all profiles. Where engines take other steps (a sigmoid whose exponential is rounded, scores that
// are never rounded), kernels ask which engine's steps to take.
//   fp64      no rounding: the exact formula, for measuring everybody else's error
//   fp32      every value that the reference holds in a tensor is rounded to float32
//   hf-bf16   values that transformers holds in bfloat16 are rounded to bfloat16, those that it holds in float32 (the inside of
//             norms, softmax, rotary tables, routers) to float32; specs/architectures.md, section 0.1
//   hf-fp16   the same places in float16
//   mlx-bf16  as mlx-lm on mlx's CPU backend: every operation's result is bfloat16, but for the insides of norms, of softmax and
//             of products
//   mlx-fp16  the same places in float16
//   ggml      as llama.cpp on a CPU: values are float32; what meets a weight is first rounded to the type that the weight's own
//             is multiplied with (ggml.h), and attention's cache is float16
//   ggml-flash  the same with flash attention, llama.cpp's default: values are summed in float16
//   cpu-int8  as our own cpu executor where weights are quantised: what meets them is int8 with a scale for each 64 channels
//   cpu-int16 the same with products of 16-bit integers: attention's too, and those with weights of two bytes (int16.h)
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "core/float_bits.h"

namespace plumb {

enum class Precision : std::uint8_t { kFp64, kFp32, kHfBf16, kHfFp16, kMlxBf16, kMlxFp16, kGgml, kGgmlFlash, kCpuInt8, kCpuInt16 };

inline constexpr std::array kPrecisions = {Precision::kFp64,    Precision::kFp32,    Precision::kHfBf16, Precision::kHfFp16,
                                           Precision::kMlxBf16, Precision::kMlxFp16, Precision::kGgml, Precision::kGgmlFlash,
                                           Precision::kCpuInt8, Precision::kCpuInt16};

constexpr std::string_view to_string(Precision precision) {
  constexpr std::string_view kNames[] = {"fp64", "fp32", "hf-bf16", "hf-fp16", "mlx-bf16", "mlx-fp16", "ggml", "ggml-flash", "cpu-int8", "cpu-int16"};
  return kNames[static_cast<std::size_t>(precision)];
}

// The dtype of what one module hands to the next.
enum class ActivationType : std::uint8_t { kFloat64, kFloat32, kBfloat16, kFloat16 };

constexpr ActivationType activation_type(Precision precision) {
  constexpr ActivationType kTypes[] = {ActivationType::kFloat64,  ActivationType::kFloat32,  ActivationType::kBfloat16,
                                       ActivationType::kFloat16,  ActivationType::kBfloat16, ActivationType::kFloat16,
                                       ActivationType::kFloat32,  ActivationType::kFloat32,  ActivationType::kFloat32,
                                       ActivationType::kFloat32};
  return kTypes[static_cast<std::size_t>(precision)];
}

// Whose steps a kernel takes where engines differ.
enum class Engine : std::uint8_t { kTransformers, kMlx, kGgml, kCpu };

class Numerics {
 public:
  explicit constexpr Numerics(Precision precision) : precision_(precision), type_(activation_type(precision)) {}

  Precision precision() const { return precision_; }
  bool exact() const { return type_ == ActivationType::kFloat64; }
  // Two bytes: results of modules and parameters lose bits.
  bool narrow() const { return type_ == ActivationType::kBfloat16 || type_ == ActivationType::kFloat16; }
  Engine engine() const {
    if (precision_ == Precision::kGgml || precision_ == Precision::kGgmlFlash) return Engine::kGgml;
    if (precision_ == Precision::kCpuInt8 || precision_ == Precision::kCpuInt16) return Engine::kCpu;
    return precision_ == Precision::kMlxBf16 || precision_ == Precision::kMlxFp16 ? Engine::kMlx : Engine::kTransformers;
  }
  bool mlx() const { return engine() == Engine::kMlx; }
  bool ggml() const { return engine() == Engine::kGgml; }
  // What meets a weight is rounded first.
  bool rounds_operands() const { return ggml() || engine() == Engine::kCpu; }

  // A value of the activation dtype: what one module hands to the next.
  double activation(double value) const {
    if (type_ == ActivationType::kFloat64) return value;
    const auto single = static_cast<float>(value);
    if (type_ == ActivationType::kFloat32) return single;
    return type_ == ActivationType::kBfloat16 ? round_to_bfloat16(single) : half_to_float(float_to_half(single));
  }

  // A value that the reference holds in float32 whatever the activation dtype.
  double single(double value) const {
    return type_ == ActivationType::kFloat64 ? value : static_cast<float>(value);
  }

  // A parameter: loading a model casts it to the activation dtype.
  double parameter(double value) const { return narrow() ? activation(value) : value; }

 private:
  Precision precision_;
  ActivationType type_;
};

}  // namespace plumb
