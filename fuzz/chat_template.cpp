// tokenizer_config.json from any bytes, or a bare template, and a rendered prompt, judged by the template's constants.
#include <cstddef>
#include <cstdint>

#include "io/tokenizer_config.h"
#include "parity/chat_prompt.h"
#include "parts.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto parts = plumb::fuzz::parts_of(data, size, 3);
  const auto config = plumb::parse_tokenizer_config(parts[0], "input");
  const std::string_view source = config.ok() ? std::string_view(config.value().chat_template) : parts[0];
  (void)plumb::judge_rendered(plumb::read_template(source), parts[1], parts[2]);
  return 0;
}
