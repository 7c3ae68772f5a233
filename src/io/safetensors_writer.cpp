// The layout of safetensors (safetensors crate, tensor.rs): header length u64, JSON padded with spaces to 8 bytes, data without
// gaps, wider elements first so that each tensor is aligned.
#include "io/safetensors_writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <system_error>
#include <utility>

#include "core/checked.h"
#include "core/float_bits.h"

namespace plumb {
namespace {

constexpr std::size_t kBatchBytes = std::size_t{1} << 20;

bool is_writable(DType dtype) {
  switch (dtype) {
    case DType::kF64:
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kI64:
    case DType::kI32:
      return true;
    default:
      return false;
  }
}

template <class T>
void append(std::vector<std::byte>& bytes, T value) {
  static_assert(std::endian::native == std::endian::little, "the format is little-endian");
  const std::size_t at = bytes.size();
  bytes.resize(at + sizeof value);
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

// 2^digits and its negative bound what fits; both are exact in double.
template <class T>
bool append_integer(std::vector<std::byte>& bytes, double value) {
  const double limit = std::ldexp(1.0, std::numeric_limits<T>::digits);
  if (!(value >= -limit && value < limit) || value != std::floor(value)) return false;
  append(bytes, static_cast<T>(value));
  return true;
}

// False when an integer type does not hold the value.
bool append_element(std::vector<std::byte>& bytes, DType dtype, double value) {
  switch (dtype) {
    case DType::kF64:
      append(bytes, value);
      return true;
    case DType::kF32:
      append(bytes, static_cast<float>(value));
      return true;
    case DType::kF16:
      append(bytes, float_to_half(static_cast<float>(value)));
      return true;
    case DType::kBF16:
      append(bytes, float_to_bfloat16(static_cast<float>(value)));
      return true;
    case DType::kI64:
      return append_integer<std::int64_t>(bytes, value);
    case DType::kI32:
      return append_integer<std::int32_t>(bytes, value);
    default:
      return false;
  }
}

std::uint64_t element_bytes(DType dtype) {
  return static_cast<std::uint64_t>(info(dtype).block_bytes);
}

Result<std::uint64_t> tensor_bytes(const TensorToWrite& tensor) {
  const auto count = element_count(tensor.shape);
  const auto bytes =
      count ? checked_mul(static_cast<std::uint64_t>(*count), element_bytes(tensor.dtype))
            : std::nullopt;
  if (!is_writable(tensor.dtype) || !bytes) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("tensor {}: cannot write {} of shape {}", tensor.name,
                             to_string(tensor.dtype), to_string(tensor.shape))};
  }
  return *bytes;
}

}  // namespace

Result<SafetensorsWriter> SafetensorsWriter::create(
    const std::filesystem::path& path, const std::vector<TensorToWrite>& tensors,
    const std::map<std::string, std::string>& metadata) {
  SafetensorsWriter writer;
  writer.path_ = path;
  nlohmann::json header = nlohmann::json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return element_bytes(tensors[a].dtype) > element_bytes(tensors[b].dtype);
  });
  writer.slots_.resize(tensors.size());
  std::uint64_t offset = 0;
  for (const std::size_t i : order) {
    const TensorToWrite& tensor = tensors[i];
    if (header.contains(tensor.name) || tensor.name == "__metadata__") {
      return Error{ErrorCode::kInvalidArgument,
                   fmt::format("tensor {}: its name is taken", tensor.name)};
    }
    PLUMB_TRY(const std::uint64_t bytes, tensor_bytes(tensor));
    const auto end = checked_add(offset, bytes);
    if (!end)
      return Error{ErrorCode::kInvalidArgument,
                   path.string() + ": would be larger than 2^64 bytes"};
    header[tensor.name] = {{"dtype", to_string(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, *end}}};
    writer.slots_[i] = {.tensor = tensor, .next = offset, .end = *end};
    offset = *end;
  }
  std::string text = header.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  text.append((8 - text.size() % 8) % 8, ' ');

  struct stat status {};
  if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    return Error{ErrorCode::kInvalidArgument, path.string() + ": exists and is not a regular file"};
  }
  writer.unfinished_ = path.string() + fmt::format(".unfinished-{}", ::getpid());
  writer.file_ = ::open(writer.unfinished_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (writer.file_ < 0) return writer.system_error("cannot create it");
  const auto length = static_cast<std::uint64_t>(text.size());
  PLUMB_TRY_STATUS(writer.write_bytes(0, std::as_bytes(std::span(&length, 1))));
  PLUMB_TRY_STATUS(writer.write_bytes(sizeof length, std::as_bytes(std::span(text))));
  for (Slot& slot : writer.slots_) {
    slot.next += sizeof length + length;
    slot.end += sizeof length + length;
  }
  return writer;
}

SafetensorsWriter::SafetensorsWriter(SafetensorsWriter&& other) noexcept
    : path_(std::move(other.path_)),
      unfinished_(std::move(other.unfinished_)),
      file_(std::exchange(other.file_, -1)),
      slots_(std::move(other.slots_)) {}

SafetensorsWriter::~SafetensorsWriter() {
  if (file_ < 0) return;
  ::close(file_);
  ::unlink(unfinished_.c_str());
}

Status SafetensorsWriter::write(std::size_t tensor, std::span<const double> values) {
  if (tensor >= slots_.size())
    return Error{ErrorCode::kInternal, path_.string() + ": has no such tensor"};
  Slot& slot = slots_[tensor];
  const DType dtype = slot.tensor.dtype;
  if (values.size() > (slot.end - slot.next) / element_bytes(dtype)) {
    return Error{ErrorCode::kInternal,
                 fmt::format("{}: tensor {} is given more elements than its shape {} holds",
                             path_.string(), slot.tensor.name, to_string(slot.tensor.shape))};
  }
  std::vector<std::byte> bytes;
  for (std::size_t first = 0; first < values.size(); first += kBatchBytes / 8) {
    bytes.clear();
    for (const double value :
         values.subspan(first, std::min(kBatchBytes / 8, values.size() - first))) {
      if (append_element(bytes, dtype, value)) continue;
      return Error{ErrorCode::kInternal,
                   fmt::format("{}: tensor {} of {} cannot hold {}", path_.string(),
                               slot.tensor.name, to_string(dtype), value)};
    }
    PLUMB_TRY_STATUS(write_bytes(slot.next, bytes));
    slot.next += bytes.size();
  }
  return {};
}

Status SafetensorsWriter::finish() {
  for (const Slot& slot : slots_) {
    if (slot.next == slot.end) continue;
    return Error{ErrorCode::kInternal,
                 fmt::format("{}: tensor {} lacks {} elements", path_.string(), slot.tensor.name,
                             (slot.end - slot.next) / element_bytes(slot.tensor.dtype))};
  }
  if (::fsync(file_) != 0) return system_error("cannot write it to the disk");
  if (::rename(unfinished_.c_str(), path_.c_str()) != 0)
    return system_error("cannot rename the finished file");
  if (::close(std::exchange(file_, -1)) != 0) return system_error("cannot close it");
  return {};
}

Status SafetensorsWriter::write_bytes(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(file_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return system_error("cannot write");
    offset += static_cast<std::uint64_t>(written);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

Error SafetensorsWriter::system_error(const char* what) const {
  return {ErrorCode::kInvalidArgument,
          fmt::format("{}: {}: {}", path_.string(), what, std::generic_category().message(errno))};
}

}  // namespace plumb
