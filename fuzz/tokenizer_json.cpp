// Any bytes as tokenizer.json; what loads must encode, decode and stream without harm.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "use_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using plumb::Tokenizer;
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  const plumb::Result<Tokenizer> tokenizer = Tokenizer::from_json(json, "fuzz");
  if (tokenizer.ok()) plumb::fuzz::use(tokenizer.value());
  return 0;
}
