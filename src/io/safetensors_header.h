// The header of one .safetensors file.
#pragma once
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "io/tensor_source.h"

namespace plumb {

// The tensors of `file`, the bytes of a whole .safetensors file, in the order of their offsets.
// `where` names the file in errors.
Result<std::vector<StoredTensor>> parse_safetensors(std::span<const std::byte> file,
                                                    std::string_view where);

}  // namespace plumb
