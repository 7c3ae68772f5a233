// Base64 with the standard alphabet (RFC 4648, section 4); the padding may be absent.
#pragma once
#include <string>
#include <string_view>

#include "core/result.h"

namespace plumb {

Result<std::string> decode_base64(std::string_view text);

}  // namespace plumb
