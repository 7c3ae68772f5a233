// Read-only mappings by mmap(2), and small text files.
#include "core/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <system_error>

#include "core/checked.h"

namespace plumb {
namespace {

Error file_error(const std::filesystem::path& path, const char* what) {
  const ErrorCode code = errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kInvalidArgument;
  return {code, path.string() + ": " + what + ": " + std::generic_category().message(errno)};
}

// Closes the descriptor when it goes out of scope; a mapping outlives its descriptor.
struct Descriptor {
  int fd;
  explicit Descriptor(int value) : fd(value) {}
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
};

}  // namespace

Result<std::shared_ptr<const MappedFile>> MappedFile::open(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a FIFO without a writer would wait for ever; for regular files it changes nothing.
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.fd < 0) return file_error(path, "cannot open");
  struct stat status {};
  if (::fstat(file.fd, &status) != 0) return file_error(path, "cannot read its size");
  if (!S_ISREG(status.st_mode))
    return Error{ErrorCode::kInvalidArgument, path.string() + ": is not a regular file"};
  const auto size = narrow<std::size_t>(status.st_size);
  if (!size)
    return Error{ErrorCode::kInvalidArgument, path.string() + ": its size does not fit in memory"};
  if (*size == 0) return std::shared_ptr<const MappedFile>(new MappedFile(path, {}));
  void* address = ::mmap(nullptr, *size, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (address == MAP_FAILED)
    return file_error(path, "cannot map");  // NOLINT(cppcoreguidelines-pro-type-cstyle-cast)
  return std::shared_ptr<const MappedFile>(
      new MappedFile(path, {static_cast<const std::byte*>(address), *size}));
}

MappedFile::MappedFile(std::filesystem::path path, std::span<const std::byte> bytes)
    : path_(std::move(path)), bytes_(bytes) {}

MappedFile::~MappedFile() {
  // munmap takes a plain pointer; the mapping was read-only throughout.
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());  // NOLINT
}

void MappedFile::release(std::span<const std::byte> part) const {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<std::uintptr_t>(part.data());
  const auto own = reinterpret_cast<std::uintptr_t>(bytes_.data());
  if (begin < own || part.size() > bytes_.size() || begin - own > bytes_.size() - part.size()) return;
  const std::uintptr_t first = (begin + page - 1) / page * page;
  const std::uintptr_t end = (begin + part.size()) / page * page;
  // Of a private mapping that nobody writes, only the page tables' entries go.
  if (first < end) ::madvise(reinterpret_cast<void*>(first), end - first, MADV_DONTNEED);  // NOLINT
}

Result<std::string> read_text_file(const std::filesystem::path& path, std::size_t limit_bytes) {
  PLUMB_TRY(const auto file, MappedFile::open(path));
  const auto bytes = file->bytes();
  if (bytes.size() > limit_bytes) {
    return Error{ErrorCode::kCorrupt, path.string() + ": has " + std::to_string(bytes.size()) +
                                          " bytes, the limit for such a file is " +
                                          std::to_string(limit_bytes)};
  }
  std::string text(bytes.size(), '\0');
  if (!bytes.empty()) std::memcpy(text.data(), bytes.data(), bytes.size());
  return text;
}

bool is_present(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::symlink_status(path, ignored).type() !=
         std::filesystem::file_type::not_found;
}

}  // namespace plumb
