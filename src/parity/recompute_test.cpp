// Recomputing sequences of many steps: the executor's numbers, in a small stack and in memory that grows with the sequence and not with its
// square.
#include "parity/recompute.h"

#include <gtest/gtest.h>
#include <malloc.h>
#include <pthread.h>

#include <cmath>
#include <functional>

#include "models/support/registry.h"
#include "parity/trace_test_support.h"
#include "reference/executor.h"
#include "reference/test_weight.h"

namespace plumb {
namespace {

constexpr std::size_t kSteps = 1200;
constexpr std::int32_t kVocab = 13;

BoundGraph network() {
  Config config = Config::parse(R"({"model_type": "qwen3", "vocab_size": 13, "hidden_size": 4, "intermediate_size": 3, "num_hidden_layers": 2,
    "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 32, "rope_theta": 100})", "a test").value();
  const Architecture* architecture = find_architecture("qwen3");
  EXPECT_TRUE(config.apply_defaults(architecture->defaults).ok());
  BoundGraph network{.graph = architecture->record(config).value(), .weights = {}};
  for (const Param& param : network.graph.params)
    network.weights.push_back(std::make_shared<test::TestWeight>(param.shape, made_values(network.weights.size(), *element_count(param.shape))));
  return network;
}

std::int32_t id_at(std::size_t step) {
  return static_cast<std::int32_t>(step * step % kVocab);
}

// A token for each step, and nothing captured but the ids.
class Steps final : public Captured {
 public:
  Steps() {
    for (std::size_t i = 0; i < kSteps; ++i)
      steps_.push_back({.first = static_cast<std::int64_t>(i), .count = 1});
  }
  const std::vector<TraceStep>& steps() const override { return steps_; }
  std::vector<std::int32_t> fed_ids(std::size_t step) const override { return {id_at(step)}; }
  std::shared_ptr<const CapturedValue> value(std::size_t, std::string_view) const override { return nullptr; }

 private:
  std::vector<TraceStep> steps_;
};

// On a thread of a stack that holds no call for each step.
void in_small_stack(const std::function<void()>& work) {
  pthread_attr_t attributes;
  ASSERT_EQ(pthread_attr_init(&attributes), 0);
  ASSERT_EQ(pthread_attr_setstacksize(&attributes, std::size_t{512} << 10), 0);
  pthread_t thread{};
  const auto call = [](void* given) -> void* {
    (*static_cast<const std::function<void()>*>(given))();
    return nullptr;
  };
  ASSERT_EQ(pthread_create(&thread, &attributes, call, const_cast<std::function<void()>*>(&work)), 0);
  EXPECT_EQ(pthread_join(thread, nullptr), 0);
  pthread_attr_destroy(&attributes);
}

TEST(Recompute, ManyStepsTakeNeitherStackNorTheSquareOfTheirMemory) {
  const BoundGraph bound = network();
  const Steps captured;
  ThreadPool pool(1);
  const Patch nothing;
  const std::size_t before = mallinfo2().uordblks;
  std::size_t after = 0;
  Tensor last;
  Tensor patched;
  in_small_stack([&] {
    Recompute run(bound, captured, Numerics(Precision::kFp64), pool, nothing);
    last = run.computed(kSteps - 1, bound.graph.logits);
    after = mallinfo2().uordblks;
    // Under a patch of the last layer, what comes before is of the base.
    Patch patch;
    const int norm = bound.graph.find_stage("layers.1.attn.norm");
    patch.stages.emplace(norm, bound.graph.stages[static_cast<std::size_t>(norm)]);
    std::get<Norm>(patch.stages.at(norm).operation).eps = 1;
    Recompute changed(run, pool, patch, touched_stages(bound, patch));
    patched = changed.computed(kSteps - 1, bound.graph.logits);
  });
  constexpr std::size_t kMost = std::size_t{150} << 20;  // a copy of keys and values for each step: 700 MiB
  EXPECT_LT(after - before, kMost);

  std::vector<std::int32_t> ids;
  for (std::size_t i = 0; i < kSteps; ++i)
    ids.push_back(id_at(i));
  const auto expect_run = [&](const BoundGraph& right, const Tensor& found) {
    const auto executor = make_reference_executor(right, Precision::kFp64, 1);
    const auto sequence = executor->start();
    const Tensor expected = executor->forward(*sequence, ids, {}).value();
    ASSERT_EQ(found.shape, expected.shape);
    for (std::size_t i = 0; i < expected.data.size(); ++i)
      EXPECT_NEAR(found.data[i], expected.data[i], 1e-12 * std::abs(expected.data[0]) + 1e-12);
  };
  expect_run(bound, last);
  BoundGraph other = bound;
  std::get<Norm>(other.graph.stages[static_cast<std::size_t>(other.graph.find_stage("layers.1.attn.norm"))].operation).eps = 1;
  expect_run(other, patched);
}

}  // namespace
}  // namespace plumb
