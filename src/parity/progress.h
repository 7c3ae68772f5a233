// Words about long work, from any thread, a few times a second.
#pragma once
#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <utility>

namespace plumb {

class Progress {
 public:
  using Report = std::function<void(const std::string& words)>;

  explicit Progress(Report report = {}) : report_(std::move(report)) {}

  // `words()` is asked only where it is time to tell.
  template <class Words>
  void tell(const Words& words) {
    if (!report_) return;
    const std::unique_lock lock(mutex_, std::try_to_lock);
    const auto now = std::chrono::steady_clock::now();
    if (!lock.owns_lock() || now < next_) return;
    next_ = now + std::chrono::milliseconds(100);
    report_(words());
  }

 private:
  Report report_;
  std::mutex mutex_;
  std::chrono::steady_clock::time_point next_;
};

}  // namespace plumb
