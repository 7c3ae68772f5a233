// UTF-8 by code points (RFC 3629). Functions that take "valid" text trust it: encode() and the
// readers check once.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace plumb {

using CodePoint = char32_t;

struct Decoded {
  CodePoint code;
  std::size_t size;  // bytes
};

// The character at `position` of valid text.
inline Decoded decode_at(std::string_view text, std::size_t position) {
  const auto byte = [&](std::size_t i) {
    return static_cast<CodePoint>(static_cast<unsigned char>(text[position + i]));
  };
  const CodePoint lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F),
          4};
}

// The character that ends before `position` of valid text; position > 0.
inline Decoded decode_before(std::string_view text, std::size_t position) {
  std::size_t begin = position - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80)
    --begin;
  return decode_at(text, begin);
}

void append_utf8(std::string& out, CodePoint code);

bool is_valid_utf8(std::string_view text);

// Where the first part begins that is not UTF-8; bytes.size() when there is none.
std::size_t first_invalid_utf8(std::string_view bytes);

// `bytes` with U+FFFD for each maximal invalid part (Unicode 16, section 3.9, "U+FFFD substitution
// of maximal subparts").
std::string to_valid_utf8(std::string_view bytes);

}  // namespace plumb
