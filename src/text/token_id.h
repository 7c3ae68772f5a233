// The number of a vocabulary entry.
#pragma once
#include <cstdint>

namespace plumb {

using TokenId = std::int32_t;

}  // namespace plumb
