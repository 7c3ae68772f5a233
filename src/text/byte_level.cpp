// The byte alphabet: printable Latin-1 stands for itself, the other bytes for U+0100 upwards in
// order.
#include "text/byte_level.h"

namespace plumb {

const ByteAlphabet& ByteAlphabet::get() {
  static const ByteAlphabet alphabet;
  return alphabet;
}

ByteAlphabet::ByteAlphabet() {
  byte_of_.fill(-1);
  CodePoint next = 0x100;
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    const CodePoint code = printable ? static_cast<CodePoint>(byte) : next++;
    append_utf8(characters_[byte], code);
    byte_of_[code] = static_cast<std::int16_t>(byte);
  }
}

void ByteAlphabet::append_encoded(std::string& out, std::string_view bytes) const {
  for (const char byte : bytes)
    out.append(characters_[static_cast<unsigned char>(byte)]);
}

bool ByteAlphabet::append_decoded(std::string& out, std::string_view text) const {
  const std::size_t before = out.size();
  for (std::size_t i = 0; i < text.size();) {
    const Decoded c = decode_at(text, i);
    if (c.code >= kEnd || byte_of_[c.code] < 0) {
      out.resize(before);
      return false;
    }
    out.push_back(static_cast<char>(byte_of_[c.code]));
    i += c.size;
  }
  return true;
}

}  // namespace plumb
