// Inputs of several files that belong together, one after the other, and tensors of such a file in memory.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/safetensors_header.h"

namespace plumb::fuzz {

// What stands between two files.
inline constexpr std::string_view kBetween = "\n%%%%\n";

// `count` parts; those that the input does not have are empty, and the last one holds all the rest.
inline std::vector<std::string_view> parts_of(const std::uint8_t* data, std::size_t size, std::size_t count) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  std::vector<std::string_view> parts;
  while (parts.size() + 1 < count) {
    const std::size_t end = std::min(rest.find(kBetween), rest.size());
    parts.push_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + kBetween.size(), rest.size()));
  }
  parts.push_back(rest);
  return parts;
}

// The tensors of a .safetensors file whose bytes outlive it.
class MemorySource final : public TensorSource {
 public:
  explicit MemorySource(std::vector<StoredTensor> tensors) : tensors_(std::move(tensors)) {}

  // Null where the reader refuses the file.
  static std::shared_ptr<const MemorySource> read(std::string_view file) {
    auto tensors = parse_safetensors(std::as_bytes(std::span(file)), "input");
    return tensors.ok() ? std::make_shared<const MemorySource>(std::move(tensors).value()) : nullptr;
  }

  std::span<const StoredTensor> tensors() const override { return tensors_; }
  const StoredTensor* find(std::string_view name) const override {
    const auto found = std::find_if(tensors_.begin(), tensors_.end(), [&](const StoredTensor& tensor) { return tensor.name == name; });
    return found == tensors_.end() ? nullptr : &*found;
  }
  std::string where() const override { return "input"; }

 private:
  std::vector<StoredTensor> tensors_;
};

}  // namespace plumb::fuzz
