// Any bytes as tiktoken's ranks with a tokenizer_config.json; what loads must encode, decode and stream without harm.
#include <cstddef>
#include <cstdint>

#include "parts.h"
#include "text/tiktoken_config.h"
#include "use_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto parts = plumb::fuzz::parts_of(data, size, 2);
  if (!plumb::is_tiktoken(parts[0])) return 0;
  const auto config = plumb::parse_tokenizer_config(parts[1], "input");
  const plumb::TokenizerConfig absent;
  const auto tokenizer = plumb::Tokenizer::from_tiktoken(parts[0], plumb::tiktoken_settings(config.ok() ? config.value() : absent), "fuzz");
  if (tokenizer.ok()) plumb::fuzz::use(tokenizer.value());
  return 0;
}
