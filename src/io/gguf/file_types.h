// What `plumb convert --type` offers: a mixture of tensor types under one name, as llama-quantize mixes them.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/dtype.h"
#include "core/shape.h"

namespace plumb {

struct GgufFileType {
  std::string_view name;  // "Q4_K_M"
  std::uint32_t number;   // general.file_type: llama.h, enum llama_ftype
  DType main;             // of most matrices
  bool more_bits;         // some values and outputs of layers go to Q6_K
};

std::optional<GgufFileType> gguf_file_type(std::string_view name);
std::string gguf_file_type_names();  // "F32, F16, …", for messages

// What the choice depends on beside the tensor itself.
struct GgufMixture {
  GgufFileType type;
  std::int64_t layers;   // that have such a tensor; position counts among them
  std::int64_t experts;  // 0: dense
  bool tied_embeddings;
};

// The type of a tensor by its GGUF name and shape, I32 for a table of experts; `position` counts the tensors of its kind before it.
DType gguf_tensor_type(const GgufMixture& mixture, std::string_view name, const Shape& shape,
                       std::int64_t position);

}  // namespace plumb
