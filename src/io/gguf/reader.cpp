// GGUF files on disk, split ones included (llama.cpp, llama_split_path and llama-model-loader.cpp).
#include "io/gguf/reader.h"

#include <fmt/format.h>

#include <utility>

namespace plumb {
namespace {

constexpr std::int64_t kMaxParts = 99'999;  // NAME-00001-of-99999.gguf

Error corrupt(const std::filesystem::path& path, const std::string& what) {
  return {ErrorCode::kCorrupt, path.string() + ": " + what};
}

std::string part_suffix(std::int64_t part, std::int64_t parts) {
  return fmt::format("-{:05}-of-{:05}.gguf", part, parts);
}

// What a file says about the split it belongs to; one part when it says nothing.
struct Split {
  std::int64_t number;  // from 0
  std::int64_t count;
};

Result<Split> split_of(const GgufContents& contents, const std::filesystem::path& path) {
  Split split{0, 1};
  for (const auto& [key, value] : contents.metadata) {
    if (key != "split.no" && key != "split.count") continue;
    const auto number = value.is_array ? std::nullopt : value.integer();
    if (!number || *number < 0 || *number > kMaxParts) {
      return corrupt(path, "the key \"" + std::string(key) + "\" is not an integer of 0 to " +
                               std::to_string(kMaxParts));
    }
    (key == "split.no" ? split.number : split.count) = *number;
  }
  if (split.count == 0) split.count = 1;
  return split;
}

}  // namespace

Status GgufFile::add(const std::filesystem::path& path) {
  PLUMB_TRY(auto file, MappedFile::open(path));
  PLUMB_TRY(GgufContents contents, parse_gguf(file->bytes(), path.string()));
  PLUMB_TRY(const Split split, split_of(contents, path));
  const auto expected = static_cast<std::int64_t>(files_.size());
  if (split.number != expected) {
    return corrupt(path, expected == 0
                             ? "is part " + std::to_string(split.number + 1) + " of " +
                                   std::to_string(split.count) + "; the first part opens the others"
                             : "says it is part " + std::to_string(split.number + 1) +
                                   ", where part " + std::to_string(expected + 1) + " should be");
  }
  files_.push_back(std::move(file));
  for (StoredTensor& tensor : contents.tensors)
    tensors_.push_back(std::move(tensor));
  if (expected > 0) return {};
  metadata_ = std::move(contents.metadata);
  return split.count > 1 ? add_parts(path, split.count) : Status();
}

Status GgufFile::add_parts(const std::filesystem::path& path, std::int64_t parts) {
  std::string name = path.filename().string();
  const std::string suffix = part_suffix(1, parts);
  if (!name.ends_with(suffix)) {
    return corrupt(
        path, "is part 1 of " + std::to_string(parts) + ", but its name does not end in " + suffix);
  }
  name.resize(name.size() - suffix.size());
  for (std::int64_t part = 2; part <= parts; ++part) {
    PLUMB_TRY_STATUS(add(path.parent_path() / (name + part_suffix(part, parts))));
  }
  if (const GgufValue* total = value("split.tensors.count")) {
    const auto expected = total->integer();
    if (!expected || std::cmp_not_equal(*expected, tensors_.size())) {
      return corrupt(path, "its parts hold " + std::to_string(tensors_.size()) +
                               " tensors, the key \"split.tensors.count\" says otherwise");
    }
  }
  return {};
}

Status GgufFile::index_tensors() {
  position_.reserve(tensors_.size());
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    if (!position_.emplace(tensors_[i].name, i).second) {
      return corrupt(path_, "its parts hold the tensor \"" + tensors_[i].name + "\" twice");
    }
  }
  return {};
}

Result<std::shared_ptr<const GgufFile>> GgufFile::open(const std::filesystem::path& path) {
  std::shared_ptr<GgufFile> file(new GgufFile(path));
  PLUMB_TRY_STATUS(file->add(path));
  PLUMB_TRY_STATUS(file->index_tensors());
  for (const auto& part : file->files_)
    part->release(part->bytes());  // the metadata has been walked through: a vocabulary is megabytes that are not needed now
  return std::shared_ptr<const GgufFile>(std::move(file));
}

const StoredTensor* GgufFile::find(std::string_view name) const {
  const auto found = position_.find(name);
  return found == position_.end() ? nullptr : &tensors_[found->second];
}

const GgufValue* GgufFile::value(std::string_view key) const {
  for (const auto& [name, value] : metadata_) {
    if (name == key) return &value;
  }
  return nullptr;
}

}  // namespace plumb
