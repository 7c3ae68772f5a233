// UTF-8 encoding, validation and repair (RFC 3629; Unicode 16, section 3.9, table 3-7).
#include "text/utf8.h"

#include <simdjson.h>

namespace plumb {
namespace {

struct Part {
  std::size_t size;
  bool valid;
};

// The character or the maximal invalid part at `position`.
Part part_at(std::string_view bytes, std::size_t position) {
  const auto at = [&](std::size_t i) -> unsigned {
    return position + i < bytes.size() ? static_cast<unsigned char>(bytes[position + i]) : 0;
  };
  const unsigned lead = at(0);
  if (lead < 0x80) return {1, true};
  if (lead < 0xC2 || lead > 0xF4) return {1, false};
  const std::size_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte excludes overlong forms, surrogates and what lies above U+10FFFF.
  const unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (at(1) < low || at(1) > high) return {1, false};
  for (std::size_t i = 2; i < size; ++i) {
    if ((at(i) & 0xC0) != 0x80) return {i, false};
  }
  return {size, true};
}

}  // namespace

void append_utf8(std::string& out, CodePoint code) {
  const auto push = [&](CodePoint byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    push(code);
  } else if (code < 0x800) {
    push(0xC0 | code >> 6);
    push(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    push(0xE0 | code >> 12);
    push(0x80 | (code >> 6 & 0x3F));
    push(0x80 | (code & 0x3F));
  } else {
    push(0xF0 | code >> 18);
    push(0x80 | (code >> 12 & 0x3F));
    push(0x80 | (code >> 6 & 0x3F));
    push(0x80 | (code & 0x3F));
  }
}

bool is_valid_utf8(std::string_view text) {
  return simdjson::validate_utf8(text.data(), text.size());
}

std::size_t first_invalid_utf8(std::string_view bytes) {
  std::size_t position = 0;
  while (position < bytes.size()) {
    const Part part = part_at(bytes, position);
    if (!part.valid) return position;
    position += part.size;
  }
  return position;
}

std::string to_valid_utf8(std::string_view bytes) {
  if (is_valid_utf8(bytes)) return std::string(bytes);
  std::string out;
  out.reserve(bytes.size());
  for (std::size_t i = 0; i < bytes.size();) {
    const Part part = part_at(bytes, i);
    if (part.valid) {
      out.append(bytes, i, part.size);
    } else {
      out.append("\xEF\xBF\xBD");
    }
    i += part.size;
  }
  return out;
}

}  // namespace plumb
