// The header of a safetensors file, and every tensor that it names, from any bytes.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/shape.h"
#include "io/decode.h"
#include "io/safetensors_header.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto tensors = plumb::parse_safetensors(std::as_bytes(std::span(data, size)), "input");
  if (!tensors.ok()) return 0;
  for (const plumb::StoredTensor& tensor : tensors.value()) {
    // A tensor that was accepted lies in the input, so its elements are no more than the input's bytes.
    std::vector<double> values(
        static_cast<std::size_t>(plumb::element_count(tensor.shape).value_or(0)));
    plumb::decode(tensor.dtype, tensor.bytes, values);
  }
  return 0;
}
