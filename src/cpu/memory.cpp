// Pages from the system; large ones by advice, which needs an alignment of their size.
#include "cpu/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <limits>
#include <new>
#include <utility>

namespace plumb::cpu {
namespace {

constexpr std::size_t kLargePage = std::size_t{1} << 21;

std::size_t round_up(std::size_t bytes, std::size_t unit) {
  if (bytes > std::numeric_limits<std::size_t>::max() - unit) throw std::bad_alloc();
  return (bytes + unit - 1) / unit * unit;
}

}  // namespace

Pages::Pages(std::size_t bytes) {
  if (bytes == 0) return;
  const bool large = bytes >= kLargePage;
  size_ = round_up(bytes, large ? kLargePage : 4096);
  const std::size_t mapped = large ? round_up(size_ + kLargePage, kLargePage) : size_;
  void* at = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) throw std::bad_alloc();
  data_ = static_cast<std::uint8_t*>(at);
  if (!large) return;
  // Keep the aligned part alone.
  const auto address = reinterpret_cast<std::uintptr_t>(at);
  const std::size_t before = (kLargePage - address % kLargePage) % kLargePage;
  const std::size_t after = mapped - before - size_;
  if (before > 0) munmap(data_, before);
  data_ += before;
  if (after > 0) munmap(data_ + size_, after);
  madvise(data_, size_, MADV_HUGEPAGE);
}

Pages::~Pages() {
  if (data_ != nullptr) munmap(data_, size_);
}

Pages::Pages(Pages&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Pages& Pages::operator=(Pages&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Pages BufferPool::take(std::int64_t floats) {
  const std::size_t bytes =
      round_up(static_cast<std::size_t>(std::max<std::int64_t>(floats, 1)) * sizeof(float), 4096);
  auto best = free_.end();
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    // A buffer much too large stays for those who need it.
    if (it->size() >= bytes && it->size() / 4 <= bytes + kLargePage &&
        (best == free_.end() || it->size() < best->size()))
      best = it;
  }
  if (best == free_.end()) return Pages(bytes);
  Pages found = std::move(*best);
  *best = std::move(free_.back());
  free_.pop_back();
  return found;
}

void BufferPool::give_back(Pages buffer) {
  constexpr std::size_t kMost = 64;
  if (buffer.size() == 0) return;
  if (free_.size() >= kMost) {  // sizes have changed: begin again
    free_.clear();
  }
  free_.push_back(std::move(buffer));
}

Array::Array(Shape of, BufferPool& pool) : shape(std::move(of)), pool_(&pool) {
  width_ = 1;
  for (std::size_t i = 1; i < shape.size(); ++i)
    width_ *= shape[i];
  buffer_ = pool.take(rows() * width_);
}

Array::~Array() {
  if (pool_ != nullptr) pool_->give_back(std::move(buffer_));
}

Array& Array::operator=(Array&& other) noexcept {
  if (this == &other) return *this;
  if (pool_ != nullptr) pool_->give_back(std::move(buffer_));
  buffer_ = Pages();
  shape = std::move(other.shape);
  counts = std::move(other.counts);
  lists = std::move(other.lists);
  buffer_ = std::move(other.buffer_);
  pool_ = std::exchange(other.pool_, nullptr);
  width_ = other.width_;
  return *this;
}

}  // namespace plumb::cpu
