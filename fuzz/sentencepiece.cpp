// Any bytes as a SentencePiece model; what loads must encode, decode and stream without harm.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using plumb::Tokenizer;
  const std::string_view model(reinterpret_cast<const char*>(data), size);
  const plumb::Result<Tokenizer> tokenizer =
      Tokenizer::from_sentencepiece(model, {true, true}, "fuzz");
  if (!tokenizer.ok()) return 0;
  const auto ids =
      tokenizer.value().encode("It's 12345 \u00e9e\u0301  <s>\u65e5\u672c\n", {true, true});
  if (!ids.ok()) return 0;
  static_cast<void>(tokenizer.value().decode(ids.value(), true));
  plumb::StreamDecoder stream(tokenizer.value(), false);
  for (const plumb::TokenId id : ids.value())
    static_cast<void>(stream.push(id));
  static_cast<void>(stream.finish());
  return 0;
}
