// What every tokenizer must do without harm, whatever bytes it was made of: encode, decode and stream.
#pragma once
#include "text/tokenizer.h"

namespace plumb::fuzz {

inline void use(const Tokenizer& tokenizer) {
  const auto ids = tokenizer.encode("It's 12345 \u00e9e\u0301  <s>\u65e5\u672c\n", {true, true});
  if (!ids.ok()) return;
  static_cast<void>(tokenizer.decode(ids.value(), true));
  StreamDecoder stream(tokenizer, false);
  for (const TokenId id : ids.value())
    static_cast<void>(stream.push(id));
  static_cast<void>(stream.finish());
}

}  // namespace plumb::fuzz
