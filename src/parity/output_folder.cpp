#include "parity/output_folder.h"

#include <fmt/format.h>
#include <unistd.h>

#include <fstream>
#include <system_error>

namespace plumb {

namespace fs = std::filesystem;

Error file_error(const fs::path& path, const std::string& what) {
  return {ErrorCode::kInvalidArgument, fmt::format("{}: {}", path.string(), what)};
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

fs::path without_separator(const fs::path& folder) {
  return folder.has_filename() ? folder : folder.parent_path();
}

fs::path beside(const fs::path& folder, std::string_view why) {
  return folder.parent_path() / fmt::format(".{}.{}.{}", folder.filename().string(), why, getpid());
}

Status write_text(const fs::path& file, const std::string& text) {
  std::ofstream out(file, std::ios::binary);
  out << text;
  out.close();
  if (!out) return file_error(file, "cannot be written");
  return {};
}

}  // namespace plumb
