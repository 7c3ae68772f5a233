// GGUF files, versions 2 and 3, little-endian: metadata and tensors as the file names them.
//   PLUMB_TRY(const auto file, GgufFile::open("model-00001-of-00003.gguf"));   // opens the other two as well
// Everything is checked at open: counts against the bytes that remain, tensors against the file's end and each other.
// Immutable once opened; safe to share between threads.
#pragma once
#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/mapped_file.h"
#include "core/result.h"
#include "io/gguf/value.h"
#include "io/tensor_source.h"

namespace plumb {

// One file's contents; the views lie in the bytes that were parsed.
struct GgufContents {
  std::vector<std::pair<std::string_view, GgufValue>> metadata;  // in the file's order
  std::vector<StoredTensor> tensors;  // axes slowest first: the file's order reversed
};

Result<GgufContents> parse_gguf(std::span<const std::byte> file, std::string_view where);

// GGUF's number of a tensor type, and back; nothing for types that are not known.
std::optional<DType> dtype_from_gguf(std::uint32_t type);
std::optional<std::uint32_t> gguf_type_of(DType dtype);

class GgufFile final : public TensorSource {
 public:
  // A file, or the first of a split one (NAME-00001-of-0000N.gguf), whose parts must lie beside it.
  static Result<std::shared_ptr<const GgufFile>> open(const std::filesystem::path& path);

  std::span<const StoredTensor> tensors() const override { return tensors_; }
  const StoredTensor* find(std::string_view name) const override;
  std::string where() const override { return path_.string(); }
  void release(std::span<const std::byte> bytes) const override {
    for (const auto& file : files_)
      file->release(bytes);
  }

  // Of the first file of a split one.
  std::span<const std::pair<std::string_view, GgufValue>> metadata() const { return metadata_; }
  const GgufValue* value(std::string_view key) const;  // nothing when absent

 private:
  explicit GgufFile(std::filesystem::path path) : path_(std::move(path)) {}
  Status add(const std::filesystem::path& path);
  Status add_parts(const std::filesystem::path& path, std::int64_t parts);
  Status index_tensors();

  std::filesystem::path path_;
  std::vector<std::shared_ptr<const MappedFile>> files_;
  std::vector<std::pair<std::string_view, GgufValue>> metadata_;
  std::vector<StoredTensor> tensors_;
  std::unordered_map<std::string_view, std::size_t> position_;  // by name, of tensors_
};

}  // namespace plumb
