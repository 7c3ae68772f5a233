// Checkpoints in .safetensors: one file, or shards that an index lists (transformers,
// modeling_utils.py).
#include <simdjson.h>

#include <map>
#include <unordered_map>
#include <unordered_set>

#include "core/mapped_file.h"
#include "io/safetensors_header.h"

namespace plumb {
namespace {

constexpr std::size_t kMaxIndexBytes = 100'000'000;
constexpr std::size_t kMaxIndexDepth = 8;
constexpr std::string_view kIndexSuffix = ".index.json";

class SafetensorsSource final : public TensorSource {
 public:
  explicit SafetensorsSource(std::filesystem::path path) : path_(std::move(path)) {}

  std::span<const StoredTensor> tensors() const override { return tensors_; }

  const StoredTensor* find(std::string_view name) const override {
    const auto found = position_.find(name);
    return found == position_.end() ? nullptr : &tensors_[found->second];
  }

  std::string where() const override { return path_.string(); }
  void release(std::span<const std::byte> bytes) const override {
    for (const auto& file : files_)
      file->release(bytes);
  }

  void add(std::shared_ptr<const MappedFile> file, std::vector<StoredTensor> tensors) {
    files_.push_back(std::move(file));
    for (StoredTensor& tensor : tensors)
      tensors_.push_back(std::move(tensor));
  }

  // Call once, when all files are in: the keys point into tensors_.
  void build_index() {
    position_.reserve(tensors_.size());
    for (std::size_t i = 0; i < tensors_.size(); ++i)
      position_.emplace(tensors_[i].name, i);
  }

 private:
  std::filesystem::path path_;
  std::vector<std::shared_ptr<const MappedFile>> files_;
  std::vector<StoredTensor> tensors_;
  std::unordered_map<std::string_view, std::size_t> position_;
};

using Source = Result<std::shared_ptr<const TensorSource>>;

Source open_file(const std::filesystem::path& path) {
  PLUMB_TRY(auto file, MappedFile::open(path));
  PLUMB_TRY(auto tensors, parse_safetensors(file->bytes(), path.string()));
  auto source = std::make_shared<SafetensorsSource>(path);
  source->add(std::move(file), std::move(tensors));
  source->build_index();
  return std::shared_ptr<const TensorSource>(std::move(source));
}

struct Index {
  std::unordered_map<std::string, std::string> file_of;  // by tensor
  std::map<std::string, std::size_t, std::less<>>
      tensors_of_file;  // how many the index puts in each shard
};

Error index_error(const std::filesystem::path& path, const std::string& what) {
  return {ErrorCode::kCorrupt, path.string() + ": " + what};
}

// {"weight_map": {tensor: file, …}, …}.
Result<Index> read_index(const std::filesystem::path& path) {
  PLUMB_TRY(const std::string text, read_text_file(path, kMaxIndexBytes));
  simdjson::dom::parser parser;
  simdjson::dom::object root;
  simdjson::dom::object entries;
  if (parser.allocate(std::max<std::size_t>(text.size(), 64), kMaxIndexDepth) !=
          simdjson::SUCCESS ||
      parser.parse(text).get(root) != simdjson::SUCCESS ||
      root.at_key("weight_map").get(entries) != simdjson::SUCCESS) {
    return index_error(path, "is not a JSON object with an object weight_map");
  }
  Index index;
  for (const auto entry : entries) {
    std::string_view file;
    const std::string name(entry.key);
    if (entry.value.get(file) != simdjson::SUCCESS || file.empty()) {
      return index_error(path,
                         "puts the tensor \"" + name + "\" in a file whose name is not a string");
    }
    if (file.find('/') != std::string_view::npos || file.find('\\') != std::string_view::npos ||
        file == "." || file.find("..") != std::string_view::npos ||
        file.find('\0') != std::string_view::npos) {
      return index_error(path, "puts the tensor \"" + name + "\" in \"" + std::string(file) +
                                   "\", which is not a name of a file beside it");
    }
    if (!index.file_of.emplace(name, file).second) {
      return index_error(path, "has the tensor \"" + name + "\" twice");
    }
    ++index.tensors_of_file[std::string(file)];
  }
  if (index.file_of.empty()) return index_error(path, "lists no tensors");
  return index;
}

Source open_shards(const std::filesystem::path& path) {
  PLUMB_TRY(const Index index, read_index(path));
  auto source = std::make_shared<SafetensorsSource>(path);
  for (const auto& [name, expected] : index.tensors_of_file) {
    const std::filesystem::path shard = path.parent_path() / name;
    PLUMB_TRY(auto file, MappedFile::open(shard));
    PLUMB_TRY(auto tensors, parse_safetensors(file->bytes(), shard.string()));
    for (const StoredTensor& tensor : tensors) {
      const auto entry = index.file_of.find(tensor.name);
      if (entry == index.file_of.end() || entry->second != name) {
        return index_error(
            shard, "holds the tensor \"" + tensor.name + "\", which the index " +
                       (entry == index.file_of.end() ? "does not list"
                                                     : "puts in \"" + entry->second + "\""));
      }
    }
    if (tensors.size() != expected) {
      return index_error(shard, "holds " + std::to_string(tensors.size()) +
                                    " tensors, the index puts " + std::to_string(expected) +
                                    " there");
    }
    source->add(std::move(file), std::move(tensors));
  }
  source->build_index();
  return std::shared_ptr<const TensorSource>(std::move(source));
}

}  // namespace

Source open_safetensors(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) {
    return path.string().ends_with(kIndexSuffix) ? open_shards(path) : open_file(path);
  }
  const std::filesystem::path single = path / "model.safetensors";
  const std::filesystem::path index = path / "model.safetensors.index.json";
  if (is_present(single)) return open_file(single);
  if (is_present(index)) return open_shards(index);
  return Error{
      ErrorCode::kNotFound,
      path.string() + ": holds neither model.safetensors nor model.safetensors.index.json"};
}

}  // namespace plumb
