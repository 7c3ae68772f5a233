// Writing safetensors files: the header first, then any tensor's elements in any order of calls.
//   PLUMB_TRY(auto file, SafetensorsWriter::create("out.safetensors", {{"ids", DType::kI32, {3}}}, {}));
//   PLUMB_TRY_STATUS(file.write(0, values));
//   PLUMB_TRY_STATUS(file.finish());
// The file appears under its name when it is complete: until then it lies beside it under another, which is removed when the
// writer goes away unfinished.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/result.h"
#include "core/shape.h"

namespace plumb {

struct TensorToWrite {
  std::string name;
  DType dtype;  // F64, F32, F16, BF16, I64 or I32
  Shape shape;
};

class SafetensorsWriter {
 public:
  static Result<SafetensorsWriter> create(const std::filesystem::path& path,
                                          const std::vector<TensorToWrite>& tensors,
                                          const std::map<std::string, std::string>& metadata);

  SafetensorsWriter(SafetensorsWriter&& other) noexcept;
  SafetensorsWriter& operator=(SafetensorsWriter&& other) = delete;
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;
  ~SafetensorsWriter();

  // The next elements of the tensor at this place of `tensors`, rounded to its dtype (ties to even). An error names a
  // tensor that has not so many elements, or a value that its integers cannot hold.
  Status write(std::size_t tensor, std::span<const double> values);

  // An error names a tensor of which elements are missing.
  Status finish();

 private:
  struct Slot {
    TensorToWrite tensor;
    std::uint64_t next;  // where its next element goes, in bytes from the file's start
    std::uint64_t end;
  };

  SafetensorsWriter() = default;
  Status write_bytes(std::uint64_t offset, std::span<const std::byte> bytes);
  Error system_error(const char* what) const;

  std::filesystem::path path_;
  std::filesystem::path unfinished_;
  int file_ = -1;
  std::vector<Slot> slots_;
};

}  // namespace plumb
