// The pool: workers wait for a call that is open, join it, take pieces of their own share of the rows and then of others', and leave. The
// caller takes pieces too and waits for those who have joined, not for those who have yet to come: where other programs run, the system lets
// a thread wait for milliseconds. Stages of a network follow each other within microseconds, so everybody looks for a while before it
// sleeps: waking a thread takes longer than many a stage. Shares, and not one counter, so that a thread reads weights that lie together,
// and so that it is known with which of them it will begin.
#include "core/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace plumb {
namespace {

thread_local bool inside_pool = false;

// A piece is so much of what is left of a share: the last ones are single rows, so that threads of unequal speed and rows of unequal cost
// end together.
constexpr std::int64_t kPartsOfShare = 2;

// About 50 microseconds.
constexpr int kLooks = 2000;

template <class F, class G>
bool look_for(const F& condition, const G& meanwhile) {
  for (int i = 0; i < kLooks; ++i) {
    if (condition()) return true;
    meanwhile();
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  return false;
}

}  // namespace

// A call as workers see it, in one number so that a worker joins this call or none: is it open, how many have joined, which is it.
constexpr std::uint64_t kOpen = 1;
constexpr std::uint64_t kJoined = 2;
constexpr std::uint64_t kCall = std::uint64_t{1} << 20;

bool nobody_works(std::uint64_t gate) {
  return gate % kCall < kJoined;
}

// The rows with which a thread begins. Apart, because each thread writes to its own.
struct alignas(64) Share {
  std::atomic<std::int64_t> next{0};
  std::int64_t end = 0;
};

// What a thread asks memory for while it waits. That the caller may exchange the two numbers between the thread's readings of them is
// harmless: what is asked for is not read.
class alignas(64) Ahead {
 public:
  void exchange(const std::byte* from, std::int64_t bytes) {
    bytes_.store(bytes, std::memory_order_relaxed);
    from_.store(from, std::memory_order_relaxed);
  }

  // A few lines of it, since asking for more at once than the processor can wait for holds up what it is called for. For the thread alone.
  void ask() {
    constexpr std::int64_t kLine = 64;
    constexpr int kLines = 8;
    const std::byte* from = from_.load(std::memory_order_relaxed);
    if (from != taken_) {
      taken_ = from;
      at_ = 0;
      end_ = bytes_.load(std::memory_order_relaxed);
    }
    for (int i = 0; i < kLines && at_ < end_; ++i, at_ += kLine)
      __builtin_prefetch(taken_ + at_, 0, 2);
  }

 private:
  std::atomic<const std::byte*> from_{nullptr};
  std::atomic<std::int64_t> bytes_{0};
  const std::byte* taken_ = nullptr;
  std::int64_t at_ = 0;
  std::int64_t end_ = 0;
};

struct ThreadPool::Shared {
  explicit Shared(std::size_t threads) : shares(threads), ahead(threads) {}

  std::vector<std::thread> workers;
  std::mutex mutex;
  std::condition_variable start;
  std::condition_variable done;
  std::atomic<std::uint64_t> gate{0};  // opened under the mutex
  std::atomic<bool> stop{false};       // changed under the mutex
  const std::function<void(std::int64_t, std::int64_t)>* work = nullptr;
  std::vector<Share> shares;  // by thread, the caller's first
  std::vector<Ahead> ahead;   // by thread
  std::exception_ptr failure;  // what work threw first; changed under the mutex

  // An exception must not leave a worker, nor the caller while others still work on what it would unwind.
  void take_pieces(std::size_t thread) {
    inside_pool = true;
    try {
      work_on_pieces(thread);
    } catch (...) {
      for (Share& share : shares)
        share.next = share.end;
      const std::lock_guard lock(mutex);
      if (failure == nullptr) failure = std::current_exception();
    }
    inside_pool = false;
  }

  void work_on_pieces(std::size_t thread) {
    for (std::size_t i = 0; i < shares.size(); ++i) {
      Share& share = shares[(thread + i) % shares.size()];
      std::int64_t begin = share.next.load();
      while (begin < share.end) {
        const std::int64_t end = begin + std::max<std::int64_t>(1, (share.end - begin) / kPartsOfShare);
        if (!share.next.compare_exchange_weak(begin, end)) continue;
        (*work)(begin, end);
        begin = share.next.load();
      }
    }
  }

  // Whether the worker that joined call `seen` before is now one of those that work on another.
  bool join(std::uint64_t& seen) {
    std::uint64_t now = gate.load();
    while (now % kJoined == kOpen && now / kCall != seen) {
      if (!gate.compare_exchange_weak(now, now + kJoined)) continue;
      seen = now / kCall;
      return true;
    }
    return false;
  }

  void run(std::size_t thread) {
    std::uint64_t seen = 0;
    for (;;) {
      bool joined = false;
      const auto called = [&] { return stop.load() || (joined = join(seen)); };
      if (!look_for(called, [&] { ahead[thread].ask(); })) {
        std::unique_lock lock(mutex);
        start.wait(lock, called);
      }
      if (!joined) return;
      take_pieces(thread);
      const std::uint64_t left = gate.fetch_sub(kJoined) - kJoined;
      if (left % kJoined == kOpen || !nobody_works(left)) continue;
      const std::lock_guard lock(mutex);
      done.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int threads) {
  const auto count = threads > 0 ? static_cast<std::size_t>(threads) : std::max<std::size_t>(1, std::thread::hardware_concurrency());
  shared_ = std::make_unique<Shared>(count);
  for (std::size_t i = 1; i < count; ++i)
    shared_->workers.emplace_back([shared = shared_.get(), i] { shared->run(i); });
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->stop = true;
  }
  shared_->start.notify_all();
  for (std::thread& worker : shared_->workers)
    worker.join();
}

int ThreadPool::threads() const {
  return static_cast<int>(shared_->workers.size()) + 1;
}

std::int64_t ThreadPool::begin_of(std::int64_t rows, int thread) const {
  const std::int64_t count = threads();
  return rows / count * thread + std::min<std::int64_t>(thread, rows % count);
}

void ThreadPool::ask_ahead(int thread, const void* from, std::int64_t bytes) {
  shared_->ahead[static_cast<std::size_t>(thread)].exchange(static_cast<const std::byte*>(from), bytes);
}

void ThreadPool::for_rows(std::int64_t rows,
                          const std::function<void(std::int64_t, std::int64_t)>& work) {
  if (rows <= 0) return;
  if (shared_->workers.empty() || rows == 1 || inside_pool) {
    work(0, rows);
    return;
  }
  // Nobody reads these before the gate opens: those who had joined have left.
  shared_->work = &work;
  for (int thread = 0; thread < threads(); ++thread) {
    Share& share = shared_->shares[static_cast<std::size_t>(thread)];
    share.next = begin_of(rows, thread);
    share.end = begin_of(rows, thread + 1);
  }
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->gate = (shared_->gate.load() / kCall + 1) * kCall + kOpen;
  }
  shared_->start.notify_all();
  shared_->take_pieces(0);
  // Those who come now find nothing: a worker that the system lets wait must not hold up all others.
  const auto finished = [&] { return nobody_works(shared_->gate.load()); };
  if (!nobody_works(shared_->gate.fetch_and(~kOpen)) && !look_for(finished, [] {})) {
    std::unique_lock lock(shared_->mutex);
    shared_->done.wait(lock, finished);
  }
  if (shared_->failure != nullptr) std::rethrow_exception(std::exchange(shared_->failure, nullptr));
}

}  // namespace plumb
