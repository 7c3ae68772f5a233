// A fixed set of threads that split a range of rows. Which thread computes a row never changes its
// value, so results are the same for every thread count.
//   ThreadPool pool(2);
//   pool.for_rows(rows, [&](std::int64_t begin, std::int64_t end) { … });
// One call at a time; a call inside a call runs on the calling thread.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>

namespace plumb {

class ThreadPool {
 public:
  explicit ThreadPool(int threads);  // the calling thread is one of them; 0: one per processor
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  // Calls work(begin, end) on disjoint pieces that cover [0, rows), and returns when all are done. What work throws is then thrown here.
  void for_rows(std::int64_t rows, const std::function<void(std::int64_t, std::int64_t)>& work);

  // The row of so many with which a thread of [0, threads()) begins; of threads(), `rows`. Rows that other threads do not come to it
  // takes afterwards.
  std::int64_t begin_of(std::int64_t rows, int thread) const;

  // What thread `thread`, of [1, threads()), will begin with in the next call: while it waits for the call it asks for these bytes, into its
  // second-level cache. Nothing is read, so they may be anywhere.
  void ask_ahead(int thread, const void* from, std::int64_t bytes);

 private:
  struct Shared;
  std::unique_ptr<Shared> shared_;
};

}  // namespace plumb
