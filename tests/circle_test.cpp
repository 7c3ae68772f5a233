// Causes under which stages read each other: an error of the hypothesis, never a hang.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "core/thread_pool.h"
#include "engine/model.h"
#include "parity/captured.h"
#include "parity/recompute.h"
#include "parity/search.h"

namespace plumb {
namespace {

// Three ids, and nothing captured.
class Ids final : public Captured {
 public:
  const std::vector<TraceStep>& steps() const override { return steps_; }
  std::vector<std::int32_t> fed_ids(std::size_t) const override { return {5, 6, 7}; }
  std::shared_ptr<const CapturedValue> value(std::size_t, std::string_view) const override { return nullptr; }

 private:
  std::vector<TraceStep> steps_{{.first = 0, .count = 3}};
};

class Circle : public ::testing::Test {
 protected:
  void SetUp() override {
    auto model = Model::load(std::filesystem::path(PLUMB_SOURCE_DIR) / "tests/data/checkpoints/qwen3", {});
    ASSERT_TRUE(model.ok()) << model.error().message;
    model_ = std::make_unique<Model>(std::move(model.value()));
  }
  const BoundGraph& network() const { return model_->network; }
  int stage(std::string_view name) const {
    const auto& stages = network().graph.stages;
    return static_cast<int>(std::ranges::find(stages, name, &Stage::name) - stages.begin());
  }
  // `reader` reads `source` in place of its first input.
  void wire(std::string_view reader, std::string_view source, Patch& patch) const {
    patched_stage(network(), stage(reader), patch).inputs[0] = {stage(source), 0};
  }

  std::unique_ptr<Model> model_;
};

TEST_F(Circle, IsSeenThroughTheStagesBetween) {
  Patch patch;
  EXPECT_FALSE(reads_in_a_circle(network(), patch));
  wire("layers.0.attn.q_norm", "layers.0.attn.q_rope", patch);  // which reads q_norm
  EXPECT_TRUE(reads_in_a_circle(network(), patch));
  wire("layers.0.attn.q_rope", "layers.0.attn.q", patch);  // the two have traded places
  EXPECT_FALSE(reads_in_a_circle(network(), patch));
  wire("layers.0.attn.norm", "layers.2.residual", patch);
  EXPECT_TRUE(reads_in_a_circle(network(), patch));
}

TEST_F(Circle, YieldsNothingInPlaceOfRunningForEver) {
  ThreadPool pool(1);
  Patch patch;
  wire("layers.0.attn.q_norm", "layers.0.attn.q_rope", patch);
  const Ids ids;
  const Patch right;
  Recompute base(network(), ids, Numerics(Precision::kFp64), pool, right);
  EXPECT_EQ(base.computed(0, network().graph.logits).tokens(), 3);
  Recompute run(network(), ids, Numerics(Precision::kFp64), pool, patch);
  EXPECT_EQ(run.computed(0, network().graph.logits).tokens(), 0);
  Recompute from_base(base, pool, patch, touched_stages(network(), patch));
  EXPECT_EQ(from_base.computed(0, network().graph.logits).tokens(), 0);
}

TEST_F(Circle, OfTwoCausesIsRefused) {
  const auto reading = [this](std::string_view reader, std::string_view source) {
    Hypothesis hypothesis;
    hypothesis.apply = [this, reader, source](const BoundGraph&, int, double, Patch& patch) {
      wire(reader, source, patch);
      return true;
    };
    return hypothesis;
  };
  Patch patch;
  EXPECT_TRUE(apply(network(), reading("layers.0.attn.norm", "embed"), {0}, 0, patch));
  EXPECT_FALSE(apply(network(), reading("layers.0.attn.q", "layers.0.attn.q_rope"), {0}, 0, patch));
  EXPECT_EQ(patch.stages.size(), 1U);  // what was there stays
}

}  // namespace
}  // namespace plumb
