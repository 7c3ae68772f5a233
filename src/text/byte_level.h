// The byte alphabet of GPT-2: each byte has a printable character (openai/gpt-2, src/encoder.py,
// bytes_to_unicode).
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "text/utf8.h"

namespace plumb {

class ByteAlphabet {
 public:
  static const ByteAlphabet& get();

  void append_encoded(std::string& out, std::string_view bytes) const;

  // The bytes that `text` spells; false, and nothing appended, when a character is not of the
  // alphabet.
  bool append_decoded(std::string& out, std::string_view text) const;

 private:
  static constexpr CodePoint kEnd = 0x144;  // one past the last character of the alphabet
  ByteAlphabet();

  std::array<std::string, 256> characters_;
  std::array<std::int16_t, kEnd> byte_of_{};  // -1 outside the alphabet
};

}  // namespace plumb
