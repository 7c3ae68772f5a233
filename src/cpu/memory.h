// Memory that kernels work on: whole pages of packed weights, and arrays of floats that stages hand to each other.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/shape.h"

namespace plumb::cpu {

// Zeroed pages, large ones where the system gives them; at least 64-byte aligned.
class Pages {
 public:
  Pages() = default;
  explicit Pages(std::size_t bytes);  // throws std::bad_alloc
  ~Pages();
  Pages(Pages&& other) noexcept;
  Pages& operator=(Pages&& other) noexcept;

  std::uint8_t* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  std::uint8_t* data_ = nullptr;
  std::size_t size_ = 0;
};

// Buffers that were used before, so that stages of a pass write to memory that is already mapped. For one thread at a time.
class BufferPool {
 public:
  // At least `floats` of any content.
  Pages take(std::int64_t floats);
  void give_back(Pages buffer);

 private:
  std::vector<Pages> free_;
};

// Floats of several tokens, or of blocks of them. Rows of one token follow each other, sequence by sequence.
class Array {
 public:
  Array() = default;
  Array(Shape shape, BufferPool& pool);
  ~Array();
  Array(Array&& other) noexcept = default;
  Array& operator=(Array&& other) noexcept;

  Shape shape;  // rows first
  // Rows of each sequence of the batch where they are not its tokens; empty: the tokens.
  std::vector<std::int64_t> counts;
  // For lists: the rows that each sequence holds, in its own memory; the array itself has none.
  struct List {
    const float* data;
    std::int64_t rows;
  };
  std::vector<List> lists;

  std::int64_t rows() const { return shape.empty() ? 0 : shape[0]; }
  std::int64_t width() const { return width_; }  // elements of one row
  float* row(std::int64_t r) { return data() + r * width_; }
  const float* row(std::int64_t r) const { return data() + r * width_; }
  float* data() { return reinterpret_cast<float*>(buffer_.data()); }
  const float* data() const { return reinterpret_cast<const float*>(buffer_.data()); }
  std::int64_t size() const { return rows() * width_; }

 private:
  Pages buffer_;
  BufferPool* pool_ = nullptr;
  std::int64_t width_ = 0;
};

}  // namespace plumb::cpu
