// A file mapped read-only into memory.
//   PLUMB_TRY(const auto file, MappedFile::open(path));   file->bytes() stays valid as long as
//   `file` lives.
// Thread-safe once opened. The size is read once, at open: shortening the file while it is mapped
// is outside the contract.
#pragma once
#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>

#include "core/result.h"

namespace plumb {

class MappedFile {
 public:
  static Result<std::shared_ptr<const MappedFile>> open(const std::filesystem::path& path);

  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }
  const std::filesystem::path& path() const { return path_; }

  // The process's share of whole pages inside `part` is given back; reading them again maps them again. Where `part` does not
  // lie in the mapping nothing happens.
  void release(std::span<const std::byte> part) const;

 private:
  MappedFile(std::filesystem::path path, std::span<const std::byte> bytes);

  std::filesystem::path path_;
  std::span<const std::byte> bytes_;
};

// Whether the folder has an entry of this name, even one that leads nowhere: that is an error for whoever opens it, not an absence.
bool is_present(const std::filesystem::path& path);

// The whole of a small text file; an error when it is larger than `limit_bytes`.
Result<std::string> read_text_file(const std::filesystem::path& path, std::size_t limit_bytes);

}  // namespace plumb
