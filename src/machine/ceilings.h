// What this machine can do at most, measured: the numbers that speeds are compared with. A machine's ceilings move with what else
// runs on it and with the placement of its cores, so they are measured beside what they are compared with, again and again.
//   CeilingMeter meter;
//   ThreadPool pool(2);
//   const Ceilings now = meter.measure(pool);
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/thread_pool.h"
#include "machine/kernels/kernels.h"

namespace plumb::machine {

// Of the threads of one pool together.
struct Ceilings {
  double fp32 = 0;  // multiplications and additions a second
  double bf16 = 0;  // of products of bfloat16; of float32 where that is faster
  double int8 = 0;
  double memory = 0;        // bytes read a second: pages of 2 MiB, eight streams, prefetched
  double memory_plain = 0;  // pages of 4 KiB, one stream
};

// Anonymous memory that is mapped and written to, in large or in small pages.
class ReadBuffer {
 public:
  // Throws std::bad_alloc.
  ReadBuffer(std::size_t bytes, bool large_pages);
  ~ReadBuffer();
  ReadBuffer(const ReadBuffer&) = delete;
  ReadBuffer& operator=(const ReadBuffer&) = delete;

  const std::uint8_t* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  std::uint8_t* data_;
  std::size_t size_;
  void* mapping_;
  std::size_t mapped_;
};

class CeilingMeter {
 public:
  static constexpr std::size_t kUsualBytes = std::size_t{256} << 20;  // far more than caches hold

  // Tries which instructions are the fastest here; takes two buffers of `bytes`, and some milliseconds.
  explicit CeilingMeter(std::size_t bytes = kUsualBytes);

  // The best of a few passes, some 50 ms in all.
  Ceilings measure(ThreadPool& pool) const;

  // Which instructions each ceiling is of: "avx512vnni". A path that is missing is "fp32".
  std::string fp32_path() const { return fp32_.name; }
  std::string bf16_path() const { return bf16_.name; }
  std::string int8_path() const { return int8_.name; }
  std::string memory_path() const { return read_->name; }

  std::size_t buffer_bytes() const { return plain_.size() + large_.size(); }

 private:
  struct Choice {
    std::string name;
    Peak peak;
    std::int64_t iterations;  // that take some milliseconds on one thread
  };

  Choice choose(Peak Kernels::*which) const;

  std::vector<const Kernels*> available_;
  const Kernels* read_;
  Choice fp32_;
  Choice bf16_;
  Choice int8_;
  ReadBuffer plain_;
  ReadBuffer large_;
};

}  // namespace plumb::machine
