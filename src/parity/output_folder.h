// Folders that are written whole or not at all: under a name beside their own that goes away unless they are renamed.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "core/result.h"

namespace plumb {

// "PATH: what".
Error file_error(const std::filesystem::path& path, const std::string& what);

// A folder that goes away with its owner, if it is still there.
struct TemporaryFolder {
  std::filesystem::path path;
  explicit TemporaryFolder(std::filesystem::path p) : path(std::move(p)) {}
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder();
};

// "a/b" of "a/b/".
std::filesystem::path without_separator(const std::filesystem::path& folder);

// A hidden name next to the folder's, of this process alone: "a/.b.unfinished.123".
std::filesystem::path beside(const std::filesystem::path& folder, std::string_view why);

Status write_text(const std::filesystem::path& file, const std::string& text);

}  // namespace plumb
