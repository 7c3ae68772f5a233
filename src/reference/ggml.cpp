// Arithmetic in float, as there: a scale's last bit decides which way values near a half fall.
#include "reference/ggml.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "reference/int16.h"
#include "reference/kernels.h"

namespace plumb::reference {
namespace {

enum class Operand : std::uint8_t { kFloat, kHalf, kBfloat16, kQ8_0, kQ8_K, kInt8, kInt16 };

Operand operand_of(std::optional<DType> type, const Numerics& numerics) {
  if (!type) return Operand::kFloat;
  if (numerics.precision() == Precision::kCpuInt16 && is_cpu_int16(*type)) return Operand::kInt16;
  if (numerics.engine() == Engine::kCpu) return is_cpu_int8(*type) ? Operand::kInt8 : Operand::kFloat;
  switch (*type) {
    case DType::kF16:
      return Operand::kHalf;
    case DType::kBF16:
      return Operand::kBfloat16;
    case DType::kQ4_0:
    case DType::kQ4_1:
    case DType::kQ5_0:
    case DType::kQ5_1:
    case DType::kQ8_0:
    case DType::kIQ4_NL:
    case DType::kMXFP4:
    case DType::kNVFP4:
      return Operand::kQ8_0;
    default:
      return *type > DType::kQ8_0 ? Operand::kQ8_K : Operand::kFloat;
  }
}

bool has_minima(std::optional<DType> type) {
  return type == DType::kQ4_1 || type == DType::kQ5_1;
}

float largest_of(std::span<const double> block) {
  float largest = 0;
  for (const double value : block)
    largest = std::max(largest, std::abs(static_cast<float>(value)));
  return largest;
}

void round_q8_0(std::span<double> block) {
  const float largest = largest_of(block);
  const double scale = half_to_float(float_to_half(largest / 127.0F));
  const float inverse = largest != 0 ? 127.0F / largest : 0;
  for (double& value : block)
    value = scale * std::nearbyint(static_cast<float>(value) * inverse);
}

// kernels/rows.inc, quantise()
void round_int8(std::span<double> block) {
  const float largest = largest_of(block);
  const float scale = largest / 127.0F;
  const float inverse = largest != 0 ? 127.0F / largest : 0;
  for (double& value : block)
    value = static_cast<double>(scale) * std::nearbyint(static_cast<float>(value) * inverse);
}

void round_q8_k(std::span<double> block) {
  float largest = 0;
  float signed_largest = 0;
  for (const double value : block) {
    const auto single = static_cast<float>(value);
    if (std::abs(single) <= largest) continue;
    largest = std::abs(single);
    signed_largest = single;
  }
  if (largest == 0) return;
  const float inverse = -127.0F / signed_largest;
  const double scale = 1.0F / inverse;
  for (double& value : block)
    value = scale * std::min(127.0F, std::nearbyint(inverse * static_cast<float>(value)));
}

}  // namespace

bool is_cpu_int8(DType type) {
  constexpr DType kTypes[] = {DType::kQ8_0, DType::kQ4_0,  DType::kQ4_1,  DType::kQ5_0,   DType::kQ5_1,   DType::kQ2_K, DType::kQ3_K, DType::kQ4_K,
                              DType::kQ5_K, DType::kQ6_K, DType::kMXFP4, DType::kNVFP4, DType::kIQ4_NL, DType::kIQ4_XS, DType::kTQ2_0,
                              DType::kTQ1_0, DType::kIQ1_S, DType::kIQ1_M, DType::kIQ2_XXS, DType::kIQ2_XS, DType::kIQ2_S, DType::kIQ3_XXS, DType::kIQ3_S};
  return std::ranges::find(kTypes, type) != std::end(kTypes);
}

Tensor as_operand(const Tensor& x, std::optional<DType> type, std::int64_t width, const Numerics& numerics) {
  Tensor y = x;
  const Operand operand = operand_of(type, numerics);
  if (operand == Operand::kFloat) return y;
  if (operand == Operand::kHalf || operand == Operand::kBfloat16) {
    for (double& value : y.data)
      value = operand == Operand::kHalf ? as_half(value) : round_to_bfloat16(static_cast<float>(value));
    return y;
  }
  const auto row = static_cast<std::size_t>(width);
  const std::size_t size = operand == Operand::kQ8_0 ? 32 : operand == Operand::kInt8 ? 64 : 256;
  for (std::size_t first = 0; first + row <= y.data.size(); first += row) {
    if (operand == Operand::kInt16) {
      round_int16_activations(std::span(y.data).subspan(first, row));
      continue;
    }
    for (std::size_t block = 0; block < row; block += size) {
      const auto values = std::span(y.data).subspan(first + block, std::min(size, row - block));
      operand == Operand::kQ8_0 ? round_q8_0(values) : operand == Operand::kInt8 ? round_int8(values) : round_q8_k(values);
    }
  }
  return y;
}

Tensor sum_roundings(const Tensor& x, std::optional<DType> type, std::int64_t width) {
  if (!has_minima(type)) return {};
  constexpr std::size_t kBlock = 32;
  PLUMB_CHECK(width % static_cast<std::int64_t>(kBlock) == 0);
  Tensor roundings({static_cast<std::int64_t>(x.data.size() / kBlock)});
  for (std::size_t b = 0; b < roundings.data.size(); ++b) {
    const auto block = std::span(x.data).subspan(b * kBlock, kBlock);
    const float largest = largest_of(block);
    const float scale = largest / 127.0F;
    const float inverse = largest != 0 ? 127.0F / largest : 0;
    float sum = 0;
    for (const double value : block)
      sum += std::nearbyint(static_cast<float>(value) * inverse);
    roundings.data[b] = as_half(scale * sum) - as_half(scale) * sum;
  }
  return roundings;
}

double minima_times(std::span<const std::byte> row, DType type, const double* roundings) {
  const auto size = static_cast<std::size_t>(info(type).block_bytes);
  double sum = 0;
  for (std::size_t block = 0; block * size < row.size(); ++block) {
    const auto* at = row.data() + block * size + 2;  // after the scale
    const auto bits = static_cast<std::uint16_t>(std::to_integer<unsigned>(at[0]) | std::to_integer<unsigned>(at[1]) << 8);
    sum += half_to_float(bits) * roundings[block];
  }
  return sum;
}

double table_gelu(double x) {
  if (x <= -10) return 0;
  if (x >= 10) return x;
  return as_half(activation_of(Activation::kGeluTanh, 1, as_half(x)));
}

}  // namespace plumb::reference
