// One metadata value of a GGUF file, as a view of the mapped bytes.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace plumb {

// ggml's docs/gguf.md, gguf_metadata_value_type.
enum class GgufType : std::uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

// Bytes of a scalar of this type; nothing for strings, arrays and unknown types.
std::optional<std::uint64_t> scalar_size(GgufType type);
std::string_view to_string(GgufType type);

struct GgufValue {
  GgufType type;  // of the elements, for an array
  bool is_array;
  std::span<const std::byte> bytes;     // scalars, one after the other; empty for strings
  std::vector<std::string_view> texts;  // strings

  std::size_t size() const;  // elements; 1 for what is no array

  // Element `i` in another form; nothing where its type cannot give it exactly (numbers become float64).
  std::optional<std::int64_t> integer(std::size_t i = 0) const;
  std::optional<double> number(std::size_t i = 0) const;
  std::optional<bool> flag(std::size_t i = 0) const;
  std::optional<std::string_view> text(std::size_t i = 0) const;
};

}  // namespace plumb
