// Slabs from which blocks are cut one behind the other; blocks that were given back are taken first, and a slab that holds none any more is
// returned to the system.
#include "cpu/block_store.h"

#include <algorithm>
#include <cstring>
#include <list>
#include <map>
#include <mutex>
#include <new>
#include <vector>

#include "cpu/memory.h"

namespace plumb::cpu {
namespace {

// A multiple of the large page. Its pages are mapped as they are written, so that a short sequence has few of them.
constexpr std::size_t kSlabBytes = std::size_t{1} << 23;
constexpr std::size_t kAlignment = 64;

struct Slab {
  Pages pages;
  std::size_t used = 0;  // bytes, from the first on
  std::size_t held = 0;  // blocks that have an owner
};

}  // namespace

class BlockStore::Slabs {
 public:
  struct Piece {
    std::list<Slab>::iterator slab;
    std::uint8_t* data;
  };

  Piece take(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    std::vector<Piece>& free = free_[bytes];
    Piece piece = {};
    if (!free.empty()) {
      piece = free.back();
      free.pop_back();
      std::memset(piece.data, 0, bytes);
    } else {
      if (slabs_.empty() || slabs_.back().pages.size() - slabs_.back().used < bytes)
        slabs_.push_back({.pages = Pages(std::max(kSlabBytes, bytes))});
      piece = {std::prev(slabs_.end()), slabs_.back().pages.data() + slabs_.back().used};
      piece.slab->used += bytes;
    }
    ++piece.slab->held;
    return piece;
  }

  void give_back(const Piece& piece, std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    if (--piece.slab->held > 0) {
      free_[bytes].push_back(piece);
      return;
    }
    for (auto& [size, pieces] : free_)
      std::erase_if(pieces, [&](const Piece& other) { return other.slab == piece.slab; });
    slabs_.erase(piece.slab);
  }

  std::size_t mapped_bytes() const {
    const std::lock_guard lock(mutex_);
    std::size_t sum = 0;
    for (const Slab& slab : slabs_)
      sum += slab.pages.size();
    return sum;
  }

 private:
  mutable std::mutex mutex_;
  std::list<Slab> slabs_;
  std::map<std::size_t, std::vector<Piece>> free_;  // by their bytes
};

BlockStore::BlockStore() : slabs_(std::make_shared<Slabs>()) {}

std::shared_ptr<std::uint8_t> BlockStore::take(std::size_t bytes) const {
  if (bytes > SIZE_MAX - kAlignment) throw std::bad_alloc();
  bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  const Slabs::Piece piece = slabs_->take(bytes);
  return {piece.data, [slabs = slabs_, piece, bytes](std::uint8_t*) { slabs->give_back(piece, bytes); }};
}

std::size_t BlockStore::mapped_bytes() const {
  return slabs_->mapped_bytes();
}

}  // namespace plumb::cpu
