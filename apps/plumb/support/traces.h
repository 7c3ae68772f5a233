// What the commands about traces share.
#pragma once
#include <filesystem>
#include <string>

#include "core/result.h"

namespace plumb {

// A trace's folder: what was given, or where the file that was given lies.
std::filesystem::path trace_folder(const std::string& given);

// The file appears under its name when it is complete. An error names it.
Status write_page(const std::filesystem::path& path, const std::string& text);

}  // namespace plumb
