// GGUF files from metadata and tensors: ggml's docs/gguf.md, version 3.
#include "io/gguf/writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "core/checked.h"
#include "io/decode.h"
#include "io/gguf/reader.h"

namespace plumb {
namespace {

constexpr std::uint64_t kAlignment = 32;
constexpr std::uint64_t kBufferBytes = std::uint64_t{8} << 20;  // of rows that are produced at once
constexpr std::uint32_t kVersion = 3;

std::uint64_t aligned(std::uint64_t offset) {
  return (offset + kAlignment - 1) / kAlignment * kAlignment;
}

template <class T>
void append(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void append_text(std::string& bytes, std::string_view text) {
  append<std::uint64_t>(bytes, text.size());
  bytes.append(text);
}

template <class T>
void append_all(std::string& bytes, std::span<const T> values) {
  bytes.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
}

// A file under a temporary name in the folder where it will stand; removed unless it is renamed.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::filesystem::path target)
      : target_(std::move(target)), name_(target_.string() + ".part-XXXXXX") {
    fd_ = ::mkostemp(name_.data(), O_CLOEXEC);
  }
  ~TemporaryFile() {
    if (fd_ < 0) return;
    ::close(fd_);
    if (!renamed_) ::unlink(name_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  bool is_open() const { return fd_ >= 0; }

  Error error(const char* what) const {
    return {ErrorCode::kInvalidArgument,
            target_.string() + ": " + what + ": " + std::generic_category().message(errno)};
  }

  Status write(const void* data, std::size_t size) {
    const auto* bytes = static_cast<const char*>(data);
    while (size > 0) {
      const ssize_t written = ::write(fd_, bytes, size);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return error("cannot write");
      bytes += written;
      size -= static_cast<std::size_t>(written);
    }
    return {};
  }

  Status finish() {
    // mkostemp makes files that only the owner reads; a model file is no secret.
    if (::fchmod(fd_, S_IRUSR | S_IWUSR | S_IRGRP | S_IROTH) != 0 || ::fsync(fd_) != 0)
      return error("cannot write");
    if (::rename(name_.c_str(), target_.c_str()) != 0)
      return error("cannot rename the finished file");
    renamed_ = true;
    return {};
  }

 private:
  std::filesystem::path target_;
  std::string name_;
  int fd_ = -1;
  bool renamed_ = false;
};

std::int64_t rows_of(const Shape& shape) {
  std::int64_t rows = 1;
  for (std::size_t i = 0; i + 1 < shape.size(); ++i)
    rows *= shape[i];
  return rows;
}

}  // namespace

void GgufWriter::begin_key(std::string_view key, GgufType type) {
  ++key_count_;
  append_text(keys_, key);
  append(keys_, static_cast<std::uint32_t>(type));
}

void GgufWriter::begin_array(std::string_view key, GgufType element, std::uint64_t count) {
  begin_key(key, GgufType::kArray);
  append(keys_, static_cast<std::uint32_t>(element));
  append(keys_, count);
}

void GgufWriter::set(std::string_view key, std::uint32_t value) {
  begin_key(key, GgufType::kU32);
  append(keys_, value);
}

void GgufWriter::set(std::string_view key, float value) {
  begin_key(key, GgufType::kF32);
  append(keys_, value);
}

void GgufWriter::set(std::string_view key, bool value) {
  begin_key(key, GgufType::kBool);
  append<std::uint8_t>(keys_, value ? 1 : 0);
}

void GgufWriter::set(std::string_view key, std::string_view value) {
  begin_key(key, GgufType::kString);
  append_text(keys_, value);
}

void GgufWriter::set(std::string_view key, std::span<const std::string> values) {
  begin_array(key, GgufType::kString, values.size());
  for (const std::string& value : values)
    append_text(keys_, value);
}

void GgufWriter::set(std::string_view key, std::span<const float> values) {
  begin_array(key, GgufType::kF32, values.size());
  append_all(keys_, values);
}

void GgufWriter::set(std::string_view key, std::span<const std::int32_t> values) {
  begin_array(key, GgufType::kI32, values.size());
  append_all(keys_, values);
}

void GgufWriter::set(std::string_view key, std::span<const std::byte> values) {
  begin_array(key, GgufType::kU8, values.size());
  append_all(keys_, values);
}

void GgufWriter::set(std::string_view key, const std::vector<bool>& values) {
  begin_array(key, GgufType::kBool, values.size());
  for (const bool value : values)
    append<std::uint8_t>(keys_, value ? 1 : 0);
}

// The bytes before the data, and how many bytes of data there are.
struct GgufWriter::Layout {
  std::string header;
  std::vector<std::uint64_t> sizes;  // by position in tensors_
  std::uint64_t total = 0;           // padding left out
};

Result<GgufWriter::Layout> GgufWriter::lay_out() const {
  Layout layout;
  layout.header = "GGUF";
  append(layout.header, kVersion);
  append<std::uint64_t>(layout.header, tensors_.size());
  append(layout.header, key_count_);
  layout.header += keys_;
  std::uint64_t offset = 0;
  for (const GgufTensor& tensor : tensors_) {
    const auto elements = element_count(tensor.shape);
    const std::uint64_t size = stored_size(tensor.dtype, elements.value_or(-1)).value_or(0);
    const auto type = gguf_type_of(tensor.dtype);
    if (size == 0 || !type || tensor.shape.empty() || tensor.shape.size() > 4) {
      return Error{ErrorCode::kUnsupported, "the tensor \"" + tensor.name + "\" of shape " +
                                                to_string(tensor.shape) + " and type " +
                                                std::string(to_string(tensor.dtype)) +
                                                " cannot be written to GGUF"};
    }
    append_text(layout.header, tensor.name);
    append(layout.header, static_cast<std::uint32_t>(tensor.shape.size()));
    for (auto axis = tensor.shape.rbegin(); axis != tensor.shape.rend(); ++axis) {
      append(layout.header, static_cast<std::uint64_t>(*axis));
    }
    append(layout.header, *type);
    append(layout.header, offset);
    layout.sizes.push_back(size);
    layout.total += size;
    offset = aligned(offset + size);
  }
  layout.header.resize(aligned(layout.header.size()), '\0');
  return layout;
}

Status GgufWriter::write(const std::filesystem::path& path, const WriteProgress& progress) const {
  PLUMB_TRY(const Layout layout, lay_out());
  TemporaryFile file(path);
  if (!file.is_open()) return file.error("cannot create");
  PLUMB_TRY_STATUS(file.write(layout.header.data(), layout.header.size()));
  std::vector<std::byte> buffer;
  std::uint64_t done = 0;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    const GgufTensor& tensor = tensors_[i];
    const std::int64_t rows = rows_of(tensor.shape);
    const std::uint64_t row_bytes =
        rows > 0 ? layout.sizes[i] / static_cast<std::uint64_t>(rows) : 0;
    const auto at_once = static_cast<std::int64_t>(
        std::max<std::uint64_t>(1, kBufferBytes / std::max<std::uint64_t>(1, row_bytes)));
    for (std::int64_t first = 0; first < rows; first += at_once) {
      const std::int64_t count = std::min(at_once, rows - first);
      buffer.resize(static_cast<std::uint64_t>(count) * row_bytes);
      PLUMB_TRY_STATUS(tensor.rows(first, count, buffer));
      PLUMB_TRY_STATUS(file.write(buffer.data(), buffer.size()));
      done += buffer.size();
      if (progress && !progress(done, layout.total)) {
        return Error{ErrorCode::kCancelled, path.string() + ": cancelled, nothing was written"};
      }
    }
    buffer.assign(aligned(layout.sizes[i]) - layout.sizes[i], std::byte{0});
    PLUMB_TRY_STATUS(file.write(buffer.data(), buffer.size()));
  }
  return file.finish();
}

}  // namespace plumb
