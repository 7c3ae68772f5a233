// The tensors of a checkpoint as its files hold them, before any translation of names or forms.
#pragma once
#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/result.h"
#include "core/shape.h"

namespace plumb {

// One tensor of a file. `bytes` lies in a mapping that the TensorSource keeps; its size has been
// checked against the shape.
struct StoredTensor {
  std::string name;
  DType dtype;
  Shape shape;
  std::span<const std::byte> bytes;
};

// Immutable once opened.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual std::span<const StoredTensor> tensors() const = 0;          // in the files' order
  virtual const StoredTensor* find(std::string_view name) const = 0;  // nothing when absent
  virtual std::string where() const = 0;  // the file or folder, for error messages
  // `bytes` of one of the tensors will hardly be read again: the memory that they take in this process may go.
  virtual void release(std::span<const std::byte> /*bytes*/) const {}
};

// A .safetensors file, an index (….safetensors.index.json) with its shards beside it, or a folder
// with model.safetensors or model.safetensors.index.json. Checks what the reference reader checks
// (safetensors crate, tensor.rs): header size, contiguous offsets, sizes; and duplicate names,
// which it does not.
Result<std::shared_ptr<const TensorSource>> open_safetensors(const std::filesystem::path& path);

}  // namespace plumb
