#include "support/traces.h"

#include <fmt/format.h>
#include <unistd.h>

#include <fstream>
#include <system_error>

namespace plumb {

std::filesystem::path trace_folder(const std::string& given) {
  std::error_code ignored;
  const std::filesystem::path path(given);
  if (std::filesystem::is_regular_file(path, ignored) &&
      (path.filename() == "manifest.json" || path.filename().string().rfind("tensors", 0) == 0))
    return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  return path;
}

Status write_page(const std::filesystem::path& path, const std::string& text) {
  std::error_code error;
  // What is no plain file, a pipe or /dev/stdout, is written as it is.
  const bool plain = !std::filesystem::exists(path, error) || std::filesystem::is_regular_file(path, error);
  const std::filesystem::path unfinished =
      plain ? path.parent_path() / fmt::format(".{}.unfinished.{}", path.filename().string(), getpid()) : path;
  std::ofstream file(unfinished, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  bool written = static_cast<bool>(file);
  if (written && plain) {
    std::filesystem::rename(unfinished, path, error);
    written = !error;
  }
  if (written) return {};
  if (plain) std::filesystem::remove(unfinished, error);
  return Error{ErrorCode::kInvalidArgument, fmt::format("{}: cannot be written", path.string())};
}

}  // namespace plumb
