// JSON for standard output. What is not UTF-8 is replaced, and a number that is not finite is null.
#pragma once
#include <nlohmann/json.hpp>

#include "core/result.h"
#include "support/terminal.h"

namespace plumb {

using Json = nlohmann::ordered_json;

// One line; `indent` spaces for each level when it is 0 or more.
inline std::string json_text(const Json& value, int indent = -1) {
  return value.dump(indent, ' ', false, Json::error_handler_t::replace);
}

inline Status print_json(const Json& value, int indent = -1) {
  return print(json_text(value, indent) + "\n");
}

}  // namespace plumb
