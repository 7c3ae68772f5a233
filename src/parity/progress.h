// Words about long work, from any thread, a few times a second.
#pragma once
#include <chrono>
#include <cmath>
#include <functional>
#include <mutex>
#include <string>
#include <utility>

namespace plumb {

// Since it was made.
class TimeLeft {
 public:
  // ", about 2 min left" once `part` of the work is done and that took some seconds; else nothing.
  std::string left(double part) const {
    const double spent = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
    if (part <= 0 || spent < 3) return "";
    const double rest = spent * (1 - part) / part;
    return rest < 100 ? ", about " + std::to_string(std::lround(rest)) + " s left"
                      : ", about " + std::to_string(std::lround(rest / 60)) + " min left";
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

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
