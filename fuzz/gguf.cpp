// A whole GGUF file from any bytes: metadata, tensors, and the elements of each.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/shape.h"
#include "io/decode.h"
#include "io/gguf/reader.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto contents = plumb::parse_gguf(std::as_bytes(std::span(data, size)), "input");
  if (!contents.ok()) return 0;
  for (const auto& [key, value] : contents.value().metadata) {
    for (std::size_t i = 0; i < value.size(); ++i) {
      (void)value.integer(i);
      (void)value.number(i);
      (void)value.flag(i);
      (void)value.text(i);
    }
  }
  for (const plumb::StoredTensor& tensor : contents.value().tensors) {
    // An accepted tensor lies in the input; a block has at most 256 elements, in 17 bytes or more.
    std::vector<double> values(
        static_cast<std::size_t>(plumb::element_count(tensor.shape).value_or(0)));
    plumb::decode(tensor.dtype, tensor.bytes, values);
  }
  return 0;
}
