// llama.cpp, tools/llama-bench/llama-bench.cpp (test_prompt, test_gen): random ids, logits of the last token, no choice.
#include "engine/timing.h"

#include <chrono>
#include <memory>
#include <random>
#include <vector>

namespace plumb {
namespace {

using Ids = std::vector<std::int32_t>;

class Timing {
 public:
  Timing(const Executor& executor, const TimedCase& timed, std::int64_t vocabulary,
         const std::function<bool()>& proceed)
      : executor_(executor), timed_(timed), draw_(0, static_cast<std::int32_t>(vocabulary - 1)) {
    options_.rows = LogitRows::kLast;
    options_.chunk = timed.chunk;
    options_.progress = [&proceed](std::int64_t) { return proceed(); };
    for (std::int64_t i = 0; i < timed.sequences; ++i)
      sequences_.push_back(executor.start());
  }

  Result<double> run() {
    if (timed_.depth > 0) PLUMB_TRY_STATUS(feed(timed_.depth));
    const auto begin = std::chrono::steady_clock::now();
    if (timed_.prompt > 0) PLUMB_TRY_STATUS(feed(timed_.prompt));
    for (std::int64_t step = 0; step < timed_.generate; ++step)
      PLUMB_TRY_STATUS(feed(1));
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }

 private:
  // Each sequence takes `count` ids.
  Status feed(std::int64_t count) {
    std::vector<Ids> ids;
    std::vector<BatchItem> items;
    ids.reserve(sequences_.size());
    for (const auto& sequence : sequences_) {
      Ids& drawn = ids.emplace_back(static_cast<std::size_t>(count));
      for (std::int32_t& id : drawn)
        id = draw_(random_);
      items.push_back({.sequence = sequence.get(), .ids = drawn});
    }
    PLUMB_TRY(const auto logits, executor_.forward_batch(items, options_));
    return {};
  }

  const Executor& executor_;
  const TimedCase& timed_;
  ForwardOptions options_;
  std::mt19937 random_{1};
  std::uniform_int_distribution<std::int32_t> draw_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
};

}  // namespace

Result<double> time_once(const Executor& executor, const TimedCase& timed, std::int64_t vocabulary,
                         const std::function<bool()>& proceed) {
  return Timing(executor, timed, vocabulary, proceed).run();
}

}  // namespace plumb
