// Names of the types in which keys and values are kept (kernels/kernels.h, CacheType).
#pragma once
#include <string_view>

#include "core/result.h"
#include "cpu/kernels/kernels.h"

namespace plumb::cpu {

// "f32", "f16", "bf16" or "q8_0"; an error lists them.
Result<CacheType> cache_type_from_name(std::string_view name);
std::string_view to_string(CacheType type);

}  // namespace plumb::cpu
