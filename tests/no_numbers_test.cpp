// A hypothesis that divides by a field which it has as 0 explains nothing, however far off the suspect is otherwise.
#include <gtest/gtest.h>

#include <limits>

#include "mutations.h"

namespace plumb::mutations {
namespace {

// The stage's own values times `factor`, the first of which is `first` if that is given.
Computation times(double factor, std::optional<double> first = std::nullopt) {
  return [factor, first](const Stage& stage, const StageOperands& operands, const StageContext& context) {
    auto outputs = run_stage(stage, operands, context);
    for (double& value : outputs[0].data)
      value *= factor;
    if (first) outputs[0].data[0] = *first;
    return outputs;
  };
}

Patch at(int stage, Computation computation) {
  Patch patch;
  patch.computations[stage] = std::move(computation);
  return patch;
}

TEST(NoNumbers, AreNoExplanation) {
  const Model model = golden::load("qwen3");
  auto all = prompt_of("qwen3").all();
  all.resize(6);
  const Ids ids(std::move(all));
  ThreadPool pool(2);
  const auto& stages = model.network.graph.stages;
  const auto norm = static_cast<int>(std::ranges::find(stages, "layers.0.attn.norm", &Stage::name) - stages.begin());
  constexpr double kFactor = 8;  // what the suspect is off by is greater than it is
  Recorded suspect(ids, Captures::kAll);
  ASSERT_TRUE(suspect.run(model.network, at(norm, times(kFactor)), Precision::kFp32, pool));
  Checker checker(model.network, suspect, kFloat32, pool);
  const auto check = checker.check(0, {norm, 0}, Reported::kValues);
  ASSERT_TRUE(check && check->fails);
  ASSERT_GT(check->residual.relative_l2, 1);
  EXPECT_LE(checker.under(*check, at(norm, times(kFactor))).relative_l2, check->budget);
  const Trial trial(checker, *check, {});
  const std::set<int> touched = {norm};
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const double none : {std::nan(""), kInfinity, -kInfinity}) {
    for (const double factor : {1.0, kFactor}) {
      const Patch patch = at(norm, times(factor, none));
      EXPECT_GT(checker.under(*check, patch).relative_l2, check->residual.relative_l2) << none;
      const Trial::Question question{patch, &touched};
      EXPECT_GT(trial.under(std::span(&question, 1))[0].residual.relative_l2, check->residual.relative_l2) << none;
    }
  }
}

}  // namespace
}  // namespace plumb::mutations
