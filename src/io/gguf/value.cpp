// Metadata values of GGUF: types, sizes and conversions (ggml's docs/gguf.md).
#include "io/gguf/value.h"

#include <array>
#include <cstring>

#include "core/checked.h"

namespace plumb {
namespace {

struct TypeInfo {
  std::string_view name;
  std::uint64_t size;  // 0: no scalar
};

constexpr std::array<TypeInfo, 13> kTypes = {{{"uint8", 1},
                                              {"int8", 1},
                                              {"uint16", 2},
                                              {"int16", 2},
                                              {"uint32", 4},
                                              {"int32", 4},
                                              {"float32", 4},
                                              {"bool", 1},
                                              {"string", 0},
                                              {"array", 0},
                                              {"uint64", 8},
                                              {"int64", 8},
                                              {"float64", 8}}};

template <class T>
T load(std::span<const std::byte> bytes, std::size_t i) {
  T value{};
  std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
  return value;
}

}  // namespace

std::optional<std::uint64_t> scalar_size(GgufType type) {
  const auto index = static_cast<std::size_t>(type);
  if (index >= kTypes.size() || kTypes[index].size == 0) return std::nullopt;
  return kTypes[index].size;
}

std::string_view to_string(GgufType type) {
  const auto index = static_cast<std::size_t>(type);
  return index < kTypes.size() ? kTypes[index].name : "unknown";
}

std::size_t GgufValue::size() const {
  const auto scalar = scalar_size(type);
  return scalar ? bytes.size() / *scalar : texts.size();
}

std::optional<std::int64_t> GgufValue::integer(std::size_t i) const {
  if (i >= size()) return std::nullopt;
  switch (type) {
    case GgufType::kU8:
      return load<std::uint8_t>(bytes, i);
    case GgufType::kI8:
      return load<std::int8_t>(bytes, i);
    case GgufType::kU16:
      return load<std::uint16_t>(bytes, i);
    case GgufType::kI16:
      return load<std::int16_t>(bytes, i);
    case GgufType::kU32:
      return load<std::uint32_t>(bytes, i);
    case GgufType::kI32:
      return load<std::int32_t>(bytes, i);
    case GgufType::kU64:
      return narrow<std::int64_t>(load<std::uint64_t>(bytes, i));
    case GgufType::kI64:
      return load<std::int64_t>(bytes, i);
    default:
      return std::nullopt;
  }
}

std::optional<double> GgufValue::number(std::size_t i) const {
  if (i >= size()) return std::nullopt;
  if (type == GgufType::kF32) return load<float>(bytes, i);
  if (type == GgufType::kF64) return load<double>(bytes, i);
  const auto whole = integer(i);
  return whole ? std::optional(static_cast<double>(*whole)) : std::nullopt;
}

std::optional<bool> GgufValue::flag(std::size_t i) const {
  if (i >= size() || type != GgufType::kBool) return std::nullopt;
  return load<std::uint8_t>(bytes, i) != 0;
}

std::optional<std::string_view> GgufValue::text(std::size_t i) const {
  return i < texts.size() ? std::optional(texts[i]) : std::nullopt;
}

}  // namespace plumb
