// The pool: workers wait for a call that is open, join it, take pieces from an atomic counter, and leave. The caller takes pieces too and
// waits for those who have joined, not for those who have yet to come: where other programs run, the system lets a thread wait for
// milliseconds. Stages of a network follow each other within microseconds, so everybody looks for a while before it sleeps: waking a thread
// takes longer than many a stage.
#include "core/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace plumb {
namespace {

thread_local bool inside_pool = false;

// Of the rows that are left, each piece is so many parts for each thread: the last ones are single rows, so that threads of unequal
// speed and rows of unequal cost end together.
constexpr std::int64_t kPartsPerThread = 2;

// About 50 microseconds.
constexpr int kLooks = 2000;

template <class F>
bool look_for(const F& condition) {
  for (int i = 0; i < kLooks; ++i) {
    if (condition()) return true;
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

struct ThreadPool::Shared {
  std::vector<std::thread> workers;
  std::mutex mutex;
  std::condition_variable start;
  std::condition_variable done;
  std::atomic<std::uint64_t> gate{0};  // opened under the mutex
  std::atomic<bool> stop{false};       // changed under the mutex
  const std::function<void(std::int64_t, std::int64_t)>* work = nullptr;
  std::int64_t rows = 0;
  std::atomic<std::int64_t> next{0};

  void take_pieces() {
    inside_pool = true;
    const std::int64_t parts = kPartsPerThread * (static_cast<std::int64_t>(workers.size()) + 1);
    std::int64_t begin = next.load();
    while (begin < rows) {
      const std::int64_t end = begin + std::max<std::int64_t>(1, (rows - begin) / parts);
      if (!next.compare_exchange_weak(begin, end)) continue;
      (*work)(begin, end);
      begin = next.load();
    }
    inside_pool = false;
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

  void run() {
    std::uint64_t seen = 0;
    for (;;) {
      bool joined = false;
      const auto called = [&] { return stop.load() || (joined = join(seen)); };
      if (!look_for(called)) {
        std::unique_lock lock(mutex);
        start.wait(lock, called);
      }
      if (!joined) return;
      take_pieces();
      const std::uint64_t left = gate.fetch_sub(kJoined) - kJoined;
      if (left % kJoined == kOpen || !nobody_works(left)) continue;
      const std::lock_guard lock(mutex);
      done.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int threads) : shared_(std::make_unique<Shared>()) {
  if (threads <= 0) threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  for (int i = 1; i < threads; ++i)
    shared_->workers.emplace_back([shared = shared_.get()] { shared->run(); });
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

void ThreadPool::for_rows(std::int64_t rows,
                          const std::function<void(std::int64_t, std::int64_t)>& work) {
  if (rows <= 0) return;
  if (shared_->workers.empty() || rows == 1 || inside_pool) {
    work(0, rows);
    return;
  }
  // Nobody reads these before the gate opens: those who had joined have left.
  shared_->work = &work;
  shared_->rows = rows;
  shared_->next = 0;
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->gate = (shared_->gate.load() / kCall + 1) * kCall + kOpen;
  }
  shared_->start.notify_all();
  shared_->take_pieces();
  // Those who come now find nothing: a worker that the system lets wait must not hold up all others.
  const auto finished = [&] { return nobody_works(shared_->gate.load()); };
  if (nobody_works(shared_->gate.fetch_and(~kOpen)) || look_for(finished)) return;
  std::unique_lock lock(shared_->mutex);
  shared_->done.wait(lock, finished);
}

}  // namespace plumb
