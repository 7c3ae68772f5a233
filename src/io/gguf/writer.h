// Writes a GGUF file, version 3: metadata first, then tensors that are produced while they are written.
//   GgufWriter writer;
//   writer.set("general.architecture", std::string("llama"));
//   writer.add_tensor({"token_embd.weight", DType::kF32, {vocab, hidden}, produce});
//   PLUMB_TRY_STATUS(writer.write("model.gguf", progress));
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/result.h"
#include "core/shape.h"
#include "io/gguf/value.h"

namespace plumb {

// Called with the bytes of tensors written so far and in all; false cancels.
using WriteProgress = std::function<bool(std::uint64_t done, std::uint64_t total)>;

struct GgufTensor {
  std::string name;
  DType dtype;
  Shape shape;  // slowest axis first
  // Writes rows [first, first + count) as stored bytes to `out`; a row is the last axis, the others are flattened.
  std::function<Status(std::int64_t first, std::int64_t count, std::span<std::byte> out)> rows;
};

class GgufWriter {
 public:
  // Keys keep their order; a key is set once.
  void set(std::string_view key, std::uint32_t value);
  void set(std::string_view key, float value);
  void set(std::string_view key, bool value);
  void set(std::string_view key, std::string_view value);
  void set(std::string_view key, const char* value) { set(key, std::string_view(value)); }
  void set(std::string_view key, std::span<const std::string> values);
  void set(std::string_view key, std::span<const float> values);
  void set(std::string_view key, std::span<const std::int32_t> values);
  void set(std::string_view key, std::span<const std::byte> values);
  void set(std::string_view key, const std::vector<bool>& values);

  void add_tensor(GgufTensor tensor) { tensors_.push_back(std::move(tensor)); }

  // To a temporary name beside `path`, which is renamed at the end: whenever this stops, `path` is whole or as it was.
  Status write(const std::filesystem::path& path, const WriteProgress& progress) const;

 private:
  struct Layout;

  void begin_key(std::string_view key, GgufType type);
  void begin_array(std::string_view key, GgufType element, std::uint64_t count);
  Result<Layout> lay_out() const;

  std::string keys_;  // encoded
  std::uint64_t key_count_ = 0;
  std::vector<GgufTensor> tensors_;
};

}  // namespace plumb
