// Memory for the blocks of keys and values of all layers and sequences, cut from large pages.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

namespace plumb::cpu {

// A decoding step reads every block from memory. Out of pages of 4 KiB that goes at 15 GB/s where large ones give 24 (one core of Zen 4 in
// a virtual machine), but a large page of its own for each layer's block would be mostly empty. Copies are the same store. Safe to use
// from several threads.
class BlockStore {
 public:
  BlockStore();
  // Zeroed bytes, aligned to 64. They go back to the store when the last owner lets go of them, which may be after the store is gone.
  // Throws std::bad_alloc.
  std::shared_ptr<std::uint8_t> take(std::size_t bytes) const;
  // What is mapped now.
  std::size_t mapped_bytes() const;

 private:
  class Slabs;
  std::shared_ptr<Slabs> slabs_;
};

}  // namespace plumb::cpu
