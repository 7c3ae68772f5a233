#include "parity/run_type.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <vector>

#include "core/float_bits.h"
#include "io/decode.h"

namespace plumb {
namespace {

// From fine to coarse, by the bits of their fractions.
constexpr std::array kTypes = {DType::kF64, DType::kF32, DType::kF16, DType::kBF16};
constexpr std::string_view kNames[] = {"float64", "float32", "float16", "bfloat16"};

std::size_t rank_of(DType type) {
  return static_cast<std::size_t>(std::ranges::find(kTypes, type) - kTypes.begin());
}

bool holds(DType type, double value) {
  const auto single = static_cast<float>(value);
  if (!std::isfinite(value)) return true;
  switch (type) {
    case DType::kBF16:
      return static_cast<double>(round_to_bfloat16(single)) == value;
    case DType::kF16:
      return static_cast<double>(half_to_float(float_to_half(single))) == value;
    case DType::kF32:
      return static_cast<double>(single) == value;
    default:
      return true;
  }
}

// The coarsest type that holds all numbers of a sample; nothing where they are too few or too plain to say.
std::optional<DType> held_in(const StoredTensor& tensor) {
  constexpr std::size_t kSample = 512;  // numbers from its middle
  constexpr std::size_t kTelling = 32;  // of them: not 0, no small whole number, no mask
  if (rank_of(tensor.dtype) == kTypes.size()) return std::nullopt;
  const auto count = static_cast<std::size_t>(element_count(tensor.shape).value_or(0));
  if (count == 0) return std::nullopt;
  const std::size_t size = tensor.bytes.size() / count;
  std::vector<double> sample(std::min(count, kSample));
  decode(tensor.dtype, tensor.bytes.subspan((count - sample.size()) / 2 * size, sample.size() * size), sample);
  std::size_t telling = 0;
  std::array<bool, kTypes.size()> fits{true, true, true, true};
  for (const double value : sample) {
    if (!std::isfinite(value) || value == std::floor(value)) continue;
    ++telling;
    for (std::size_t t = 0; t < kTypes.size(); ++t)
      fits[t] = fits[t] && holds(kTypes[t], value);
  }
  if (telling < kTelling) return std::nullopt;
  std::size_t coarsest = rank_of(tensor.dtype);
  for (std::size_t t = coarsest; t < kTypes.size(); ++t)
    coarsest = fits[t] ? t : coarsest;
  return kTypes[coarsest];
}

// The manifest's word; the count of types where it says none of them.
std::size_t said_rank(const Trace& trace) {
  return static_cast<std::size_t>(std::ranges::find(kNames, trace.manifest().dtype) - std::begin(kNames));
}

}  // namespace

bool narrowed(const Trace& trace) {
  return said_rank(trace) < rank_of(run_type(trace));
}

DType run_type(const Trace& trace) {
  const std::size_t said = said_rank(trace);
  if (said < kTypes.size() && kTypes[said] == DType::kBF16) return DType::kBF16;
  std::map<DType, std::size_t> count;
  std::size_t all = 0;
  for (const StoredTensor& tensor : trace.tensors()) {
    const auto type = held_in(tensor);
    if (!type) continue;
    ++count[*type];
    ++all;
  }
  for (const DType type : {DType::kBF16, DType::kF16}) {
    if (2 * count[type] > all) return said < rank_of(type) || said == kTypes.size() ? type : kTypes[said];
  }
  if (said < kTypes.size()) return kTypes[said];
  return count[DType::kF64] > count[DType::kF32] ? DType::kF64 : DType::kF32;
}

}  // namespace plumb
