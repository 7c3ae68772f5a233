// Every cause that may be tried runs at every stage that it is proposed for, alone and beside every other of the same stage: what it reads fits
// its shapes on every architecture. A search that ends in a failed check of our own would end the program.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "core/thread_pool.h"
#include "engine/model.h"
#include "graph/print.h"
#include "parity/captured_views.h"
#include "parity/hypothesis.h"
#include "parity/recompute.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

// A prompt and one token more, of which nothing but the ids is known.
class Ids final : public Captured {
 public:
  const std::vector<TraceStep>& steps() const override { return steps_; }
  std::vector<std::int32_t> fed_ids(std::size_t step) const override {
    return step == 0 ? std::vector<std::int32_t>{3, 1, 4, 1, 5, 9} : std::vector<std::int32_t>{2};
  }
  std::shared_ptr<const CapturedValue> value(std::size_t, std::string_view) const override { return nullptr; }

 private:
  std::vector<TraceStep> steps_{{.first = 0, .count = 6}, {.first = 6, .count = 1}};
};

std::vector<double> values_of(const Hypothesis& hypothesis) {
  if (!hypothesis.range) return {0};
  std::vector<double> values = hypothesis.range->snaps;
  values.insert(values.end(), {hypothesis.range->low, hypothesis.range->high});
  return values;
}

bool apply(const BoundGraph& network, const Hypothesis& hypothesis, int index, double value, Patch& patch) {
  Patch attempt = patch;
  if (!hypothesis.apply(network, index, value, attempt) || reads_in_a_circle(network, attempt)) return false;
  patch = std::move(attempt);
  return true;
}

class Running {
 public:
  explicit Running(const Model& model) : model_(model), base_(model.network, ids_, Numerics(Precision::kFp32), pool_, nothing_) {
    for (std::size_t step = 0; step < ids_.steps().size(); ++step)
      (void)base_.computed(step, model.network.graph.logits);
  }

  // What the patch changes, and what reads that.
  void run(const Patch& patch) {
    const BoundGraph& network = model_.network;
    const std::set<int> touched = touched_stages(network, patch);
    Recompute recompute(base_, pool_, patch, touched);
    const std::size_t step = ids_.steps().size() - 1;
    for (int i = 2; i < static_cast<int>(network.graph.stages.size()); ++i) {
      const auto& inputs = network.graph.stages[static_cast<std::size_t>(i)].inputs;
      const bool reads = std::ranges::any_of(inputs, [&](const Value& input) { return touched.contains(input.stage); });
      if (reads || touched.contains(i)) (void)recompute.computed(step, {i, 0});
    }
    ++runs_;
  }
  int runs() const { return runs_; }

 private:
  const Model& model_;
  Ids ids_;
  Patch nothing_;
  ThreadPool pool_{1};
  Recompute base_;
  int runs_ = 0;
};

// Stages that differ in their layer's number alone are alike.
std::string kind_of(const BoundGraph& network, int index) {
  const Stage& stage = stage_at(network, index);
  std::string kind = stage.layer < 0 ? stage.name : name_in_layer(stage.name, stage.layer);
  for (const Field& field : fields(stage.operation))
    kind += fmt::format(" {}={}", field.name, to_string(field.value));
  return kind;
}

// The ids of experts, or their weights, and nothing else.
class Choices final : public CapturedView {
 public:
  Choices(const Captured& ids, Recompute& right, Value value) : CapturedView(ids) {
    for (std::size_t step = 0; step < ids.steps().size(); ++step)
      values_.push_back(std::make_shared<CapturedValue>(CapturedValue{right.computed(step, value), DType::kF32}));
  }
  std::string name;
  std::shared_ptr<const CapturedValue> value(std::size_t step, std::string_view stage) const override {
    return stage == name ? values_[step] : nullptr;
  }

 private:
  std::vector<std::shared_ptr<const CapturedValue>> values_;
};

TEST(Choices, OfAnotherNumberOfExpertsDoNotStand) {
  const auto model = Model::load(fs::path(PLUMB_SOURCE_DIR) / "tests/data/checkpoints/mixtral", {});
  ASSERT_TRUE(model.ok()) << model.error().message;
  const BoundGraph& network = model.value().network;
  const int router = network.graph.find_stage("layers.0.moe.probs");
  ASSERT_GE(router, 0);
  ThreadPool pool(1);
  const Patch nothing;
  const Ids ids;
  Recompute right(network, ids, Numerics(Precision::kFp64), pool, nothing);
  for (const int output : {1, 2}) {
    Choices captured(ids, right, {router, output});
    captured.name = network.graph.output({router, output}).name;
    for (const std::int64_t chosen : {1, 3}) {
      Patch patch;
      std::get<Router>(patched_stage(network, router, patch).operation).chosen = chosen;
      Recompute with(network, captured, Numerics(Precision::kFp64), pool, patch);
      Recompute without(network, ids, Numerics(Precision::kFp64), pool, patch);
      const Value out{network.graph.find_stage("layers.0.mlp.out"), 0};
      EXPECT_EQ(with.computed(1, out).data, without.computed(1, out).data) << captured.name << ", " << chosen;
    }
  }
}

class Hypotheses : public testing::TestWithParam<std::string> {};

TEST_P(Hypotheses, RunAloneAndBesideEachOther) {
  const auto model = Model::load(fs::path(PLUMB_SOURCE_DIR) / "tests/data/checkpoints" / GetParam(), {});
  ASSERT_TRUE(model.ok()) << model.error().message;
  const BoundGraph& network = model.value().network;
  Running running(model.value());
  std::set<std::string> seen;
  for (int i = 0; i < static_cast<int>(network.graph.stages.size()); ++i) {
    if (!seen.insert(kind_of(network, i)).second) continue;
    const auto list = hypotheses_about(network, *model.value().config, i);
    for (const Hypothesis& hypothesis : list) {
      for (const double value : values_of(hypothesis)) {
        Patch alone;
        if (apply(network, hypothesis, i, value, alone)) running.run(alone);
      }
      Patch first;
      if (!apply(network, hypothesis, i, values_of(hypothesis)[0], first)) continue;
      for (const Hypothesis& other : list) {
        Patch both = first;
        if (hypothesis.field != other.field && apply(network, other, i, values_of(other)[0], both)) running.run(both);
      }
    }
  }
  EXPECT_GT(running.runs(), 1000);
}

INSTANTIATE_TEST_SUITE_P(Architectures, Hypotheses,
                         testing::Values("deepseek_v4", "gemma2", "gemma3", "gpt_oss", "llama", "mixtral", "olmoe", "qwen2", "qwen3", "qwen3_5", "qwen3_5_moe",
                                         "qwen3_moe", "qwen3_next"),
                         [](const auto& each) { return each.param; });

}  // namespace
}  // namespace plumb
