// Checks on JSON text from outside before anything is built from it.
#pragma once
#include <string_view>

#include "core/result.h"

namespace plumb {

// An error when `json` is not one JSON value in valid UTF-8, or nests deeper than `depth_limit`.
// `where` names it.
Status check_json(std::string_view json, std::string_view where, int depth_limit);

}  // namespace plumb
