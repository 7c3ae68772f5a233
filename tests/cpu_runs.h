// Runs of the cpu executor that several tests ask for, and its contract: the same bits for every chunk, batch, thread count and cache hit.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cpu/executor.h"
#include "engine/model.h"

namespace plumb {

using cpu::Activations;
using cpu::CacheType;
using cpu::Isa;

inline std::unique_ptr<Executor> executor_of(const Model& model, Isa isa, Activations activations,
                                             int threads = 2, CacheType cache = CacheType::kF32) {
  return cpu::make_cpu_executor(
      model.network, {.isa = isa, .activations = activations, .threads = threads, .cache = cache});
}

// Logits of all positions; a failure is reported and gives an empty tensor.
inline Tensor all_logits(const Executor& executor, std::span<const std::int32_t> ids, std::int64_t chunk = 0,
                         StageObserver* observer = nullptr) {
  const auto sequence = executor.start();
  auto logits = executor.forward(
      *sequence, ids,
      {.rows = LogitRows::kAll, .chunk = chunk, .observer = observer, .progress = {}});
  EXPECT_TRUE(logits.ok()) << (logits.ok() ? "" : logits.error().message);
  return logits.ok() ? std::move(logits).value() : Tensor();
}

// `ids` alone against the same in chunks, on one thread, and in a batch.
inline void expect_same_bits(const Model& model, Isa isa, Activations activations, CacheType cache,
                             std::span<const std::int32_t> ids, std::span<const std::int32_t> other) {
  const std::string what = std::string(to_string(isa)) + ", " + std::string(to_string(activations)) + ", cache " +
                           std::string(to_string(cache));
  const auto executor = executor_of(model, isa, activations, 2, cache);
  const auto alone = executor_of(model, isa, activations, 1, cache);
  const Tensor whole = all_logits(*executor, ids);
  const bool usual = cache == CacheType::kF32;
  for (const std::int64_t chunk : usual ? std::vector<std::int64_t>{1, 3, 7, 20, 64} : std::vector<std::int64_t>{1, 20})
    EXPECT_EQ(all_logits(*executor, ids, chunk).data, whole.data) << what << ", chunk " << chunk;
  EXPECT_EQ(all_logits(*alone, ids).data, whole.data) << what << ", one thread";

  // Behind another sequence, in pieces, and beside a third that ends early.
  const auto first = executor->start();
  const auto second = executor->start();
  const auto third = executor->start();
  const auto part = ids.subspan(0, 50);
  const BatchItem begin[] = {{first.get(), other}, {second.get(), part}, {third.get(), other.subspan(0, 5)}};
  const ForwardOptions options = {.rows = LogitRows::kAll, .chunk = 13, .observer = nullptr, .progress = {}};
  const auto begun = executor->forward_batch(begin, options);
  ASSERT_TRUE(begun.ok()) << begun.error().message;
  const BatchItem rest[] = {{second.get(), ids.subspan(50)}, {first.get(), other.subspan(0, 1)}};
  const auto ended = executor->forward_batch(rest, options);
  ASSERT_TRUE(ended.ok()) << ended.error().message;
  std::vector<double> joined = begun.value()[1].data;
  joined.insert(joined.end(), ended.value()[0].data.begin(), ended.value()[0].data.end());
  EXPECT_EQ(joined, whole.data) << what << ", batch";

  // Behind a beginning that was computed for others: all weights laid out, then. It is longer than the length at which a rotation
  // changes that depends on it, before which no bits are promised (docs/architecture.md).
  executor->prepare();
  for (const std::size_t common : usual ? std::vector<std::size_t>{50, 64} : std::vector<std::size_t>{50}) {
    if (common + 3 >= ids.size()) continue;
    const auto kept = executor->start();
    ASSERT_TRUE(executor->forward(*kept, ids.subspan(0, common), {}).ok());
    const auto hit = executor->fork(*kept);
    const auto next = executor->forward(*hit, ids.subspan(common, 3), options);
    const auto astray = executor->fork(*kept);  // goes another way meanwhile
    ASSERT_TRUE(executor->forward(*astray, other, {}).ok());
    const auto last = executor->forward(*hit, ids.subspan(common + 3), options);
    ASSERT_TRUE(next.ok() && last.ok());
    std::vector<double> found = next.value().data;
    found.insert(found.end(), last.value().data.begin(), last.value().data.end());
    const auto expected = whole.data.begin() + static_cast<std::ptrdiff_t>(common) * whole.shape[1];
    EXPECT_TRUE(std::equal(found.begin(), found.end(), expected, whole.data.end())) << what << ", after " << common << " tokens of a cache";
  }
}

}  // namespace plumb
