// Weights in memory for tests: rows of any stored type, blocks that nothing here writes drawn at random, codes with scales beside them.
#pragma once
#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "io/decode.h"
#include "io/gguf/quantise.h"
#include "io/weight.h"

namespace plumb::cpu {

// Rows of a stored type in memory.
class MemoryWeight final : public Weight {
 public:
  MemoryWeight(DType dtype, Shape shape, std::vector<std::byte> bytes)
      : dtype_(dtype), shape_(std::move(shape)), bytes_(std::move(bytes)) {}
  const Shape& shape() const override { return shape_; }
  void read_row(std::int64_t row, std::span<double> out) const override {
    decode(dtype_, stored_row(row), out);
  }
  std::optional<DType> stored_dtype() const override { return dtype_; }
  std::span<const std::byte> stored_row(std::int64_t row) const override {
    const std::size_t size = bytes_.size() / static_cast<std::size_t>(rows());
    return std::span(bytes_).subspan(static_cast<std::size_t>(row) * size, size);
  }
  std::string format() const override { return std::string(to_string(dtype_)); }
  std::uint64_t stored_bytes() const override { return bytes_.size(); }

 private:
  DType dtype_;
  Shape shape_;
  std::vector<std::byte> bytes_;
};

inline std::vector<float> random_floats(std::int64_t n, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(n));
  for (float& value : values)
    value = normal(engine);
  return values;
}

// Whether quantise_row() knows it.
inline bool is_written(DType dtype) {
  constexpr DType kNot[] = {DType::kMXFP4, DType::kNVFP4,  DType::kIQ4_NL, DType::kIQ4_XS, DType::kQ2_K,
                            DType::kQ3_K,  DType::kTQ2_0, DType::kIQ2_XS, DType::kIQ2_XXS,
                            DType::kIQ2_S, DType::kIQ3_XXS, DType::kIQ3_S,  DType::kIQ1_S,  DType::kIQ1_M, DType::kTQ1_0};
  return std::ranges::find(kNot, dtype) == std::end(kNot);
}

// Scales in the middle of what they can be, in a block of bytes at random: ggml-common.h.
inline void tame(DType dtype, std::span<std::byte> block, std::mt19937& engine) {
  const auto half_at = [&](std::size_t at) {
    const auto half = static_cast<std::uint16_t>(0x2800U + engine() % 0x1000U);
    std::memcpy(block.data() + at, &half, 2);
  };
  switch (dtype) {
    case DType::kMXFP4:
      block[0] = static_cast<std::byte>(120 + engine() % 8);
      return;
    case DType::kNVFP4:  // signs, which do not count; zeros; subnormal ones
      for (std::size_t i = 0; i < 4; ++i)
        block[i] = static_cast<std::byte>(engine() % 0x60 | (engine() % 2) << 7);
      return;
    case DType::kQ2_K:
      half_at(80);
      return half_at(82);
    case DType::kQ3_K:
      return half_at(108);
    case DType::kTQ2_0:
      return half_at(64);
    case DType::kTQ1_0:
      return half_at(52);
    case DType::kIQ1_M:  // a half in four nibbles: 0x2c00
      for (std::size_t i = 0; i < 4; ++i)
        block[49 + 2 * i] = (block[49 + 2 * i] & std::byte{0x0f}) | static_cast<std::byte>((0x2c00 >> (4 * i) & 0xf) << 4);
      return;
    default:
      return half_at(0);
  }
}

// Codes with scales beside them, as safetensors files of MXFP4, NVFP4 and FP8 have them, in double arithmetic.
class MemoryScaled final : public Weight {
 public:
  MemoryScaled(ScaledForm form, std::int64_t rows, std::int64_t columns) : form_(form), shape_{rows, columns} {
    std::mt19937 engine(9);
    codes_.resize(static_cast<std::size_t>(rows * columns / (form.codes == ScaledCodes::kE2M1 ? 2 : 1)));
    for (std::byte& code : codes_)
      code = static_cast<std::byte>(form.codes == ScaledCodes::kE2M1 ? engine() % 256 : engine() % 0x70 | (engine() % 2) << 7);
    const auto groups = static_cast<std::size_t>((columns + form.group - 1) / form.group);
    for (std::size_t i = 0; i < groups * static_cast<std::size_t>(rows); ++i) {
      if (form.scales == DType::kF32) {
        const float scale = random_floats(1, static_cast<unsigned>(i))[0];
        const auto* bytes = reinterpret_cast<const std::byte*>(&scale);
        scales_.insert(scales_.end(), bytes, bytes + 4);
      } else {
        scales_.push_back(static_cast<std::byte>(form.scales == DType::kF8E8M0 ? 120 + engine() % 8 : engine() % 0x60 | (engine() % 2) << 7));
      }
    }
  }
  const Shape& shape() const override { return shape_; }
  void read_row(std::int64_t row, std::span<double> out) const override {
    const ScaledRow own = scaled_row(row);
    std::vector<double> scales((out.size() + static_cast<std::size_t>(form_.group) - 1) / static_cast<std::size_t>(form_.group));
    decode(form_.scales, own.scales, scales);
    for (std::size_t k = 0; k < out.size(); ++k) {
      const auto byte = std::to_integer<unsigned>(own.codes[form_.codes == ScaledCodes::kE2M1 ? k / 2 : k]);
      const double code = form_.codes == ScaledCodes::kE4M3 ? float8_e4m3_to_float(static_cast<std::uint8_t>(byte))
                                                            : float4_e2m1_to_float(static_cast<std::uint8_t>(byte >> (k % 2 * 4)));
      out[k] = code * scales[k / static_cast<std::size_t>(form_.group)] * own.factor;
    }
  }
  std::optional<ScaledForm> scaled_form() const override { return form_; }
  ScaledRow scaled_row(std::int64_t row) const override {
    const auto part = [&](const std::vector<std::byte>& bytes) {
      const std::size_t size = bytes.size() / static_cast<std::size_t>(shape_[0]);
      return std::span(bytes).subspan(static_cast<std::size_t>(row) * size, size);
    };
    return {part(codes_), part(scales_), form_.scales == DType::kF8E4M3 ? 0.25F + 0.5F * static_cast<float>(row % 3) : 1.0F};
  }
  std::string format() const override { return "scaled"; }
  std::uint64_t stored_bytes() const override { return codes_.size() + scales_.size(); }

 private:
  ScaledForm form_;
  Shape shape_;
  std::vector<std::byte> codes_;
  std::vector<std::byte> scales_;
};

inline std::shared_ptr<MemoryWeight> random_weight(DType dtype, std::int64_t rows, std::int64_t columns) {
  const std::vector<float> values = random_floats(rows * columns, 7);
  const auto row_bytes = static_cast<std::size_t>(*stored_size(dtype, columns));
  std::vector<std::byte> bytes(row_bytes * static_cast<std::size_t>(rows));
  if (!is_written(dtype)) {
    std::mt19937 engine(7);
    for (std::byte& byte : bytes)
      byte = static_cast<std::byte>(engine());
    const auto size = static_cast<std::size_t>(info(dtype).block_bytes);
    for (std::size_t block = 0; block < bytes.size(); block += size)
      tame(dtype, std::span(bytes).subspan(block, size), engine);
    return std::make_shared<MemoryWeight>(dtype, Shape{rows, columns}, std::move(bytes));
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    quantise_row(dtype, std::span(values).subspan(static_cast<std::size_t>(r * columns), static_cast<std::size_t>(columns)),
                 std::span(bytes).subspan(static_cast<std::size_t>(r) * row_bytes, row_bytes));
  }
  return std::make_shared<MemoryWeight>(dtype, Shape{rows, columns}, std::move(bytes));
}

}  // namespace plumb::cpu
