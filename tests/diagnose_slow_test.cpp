// The diagnosis against itself: causes planted in our own executor, alone and in pairs, must be named at their own stage from
// what was captured of the run; a right run must raise no alarm, whatever its precision and however it was fed. A sample with a
// fixed seed: diagnose_matrix_tool runs them all and prints what docs/diagnosis.md holds.
#include "mutations.h"

namespace plumb {
namespace {

using mutations::Captures;
using mutations::Plant;

struct Sample {
  Captures captures;
  std::size_t singles;
  std::size_t pairs;
};

SuspectType type_of(Precision precision) {
  switch (activation_type(precision)) {
    case ActivationType::kBfloat16:
      return SuspectType::kBfloat16;
    case ActivationType::kFloat16:
      return SuspectType::kFloat16;
    default:
      return SuspectType::kFloat32;
  }
}

class Diagnose : public testing::TestWithParam<std::string> {};

TEST_P(Diagnose, RightRunsRaiseNoAlarm) {
  const Model model = golden::load(GetParam());
  const mutations::Ids whole = mutations::prompt_of(GetParam());
  const mutations::Ids split(whole.all(), 9);
  ThreadPool pool(2);
  for (const Captures captures : {Captures::kAll, Captures::kBlocks, Captures::kLogprobs}) {
    for (const Precision precision : kPrecisions) {
      for (const mutations::Ids* ids : {&whole, &split}) {
        mutations::Recorded recorded(*ids, captures);
        ASSERT_TRUE(recorded.run(model.network, {}, precision, pool));
        const std::string engine = Numerics(precision).ggml() ? "llama.cpp" : Numerics(precision).mlx() ? "mlx-lm" : "plumb";
        Checker checker(model.network, recorded,
                        arithmetic_of(model.network, recorded, type_of(precision), engine, pool), pool);
        for (const Check& check : checker.run({})) {
          EXPECT_FALSE(check.fails) << to_string(precision) << " " << check.stage << " "
                                    << check.residual.relative_l2 << " of " << check.budget;
        }
      }
    }
  }
}

TEST_P(Diagnose, PlantedCausesAreNamedAtTheirStage) {
  const Model model = golden::load(GetParam());
  const mutations::Ids ids = mutations::prompt_of(GetParam());
  ThreadPool pool(2);
  int planted = 0;
  int named = 0;
  int at_stage = 0;
  std::string missed;
  for (const Sample& sample :
       {Sample{Captures::kAll, 12, 4}, Sample{Captures::kBlocks, 4, 2}, Sample{Captures::kLogits, 2, 0}}) {
    for (const bool pairs : {false, true}) {
      mutations::Source source(model, ids, sample.captures, 1);
      for (std::size_t i = 0; i < (pairs ? sample.pairs : sample.singles); ++i) {
        const auto group = source.next(pairs ? 2 : 1, pool);
        if (group.empty()) break;
        const auto verdict = mutations::judge(model, *source.recorded(), group, pool);
        ++planted;
        named += verdict.all_named() ? 1 : 0;
        at_stage += verdict.all_at_stage() ? 1 : 0;
        if (verdict.all_named() && verdict.all_at_stage()) continue;
        missed += "  " + to_string(sample.captures) + ": ";
        for (const Plant* plant : group)
          missed += plant->text() + "; ";
        missed += "came out as" + verdict.findings + "\n";
      }
    }
  }
  std::printf("%s: %d planted, %d at their stage, %d named\n%s", GetParam().c_str(), planted,
              at_stage, named, missed.c_str());
  EXPECT_GE(planted, 16);
  EXPECT_GE(at_stage, 0.95 * planted);
  EXPECT_GE(named, 0.95 * planted);
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, Diagnose,
                         testing::Values("llama", "qwen3", "olmoe", "gemma2", "gpt_oss", "qwen3_5",
                                         "deepseek_v4"),
                         golden::test_name);

}  // namespace
}  // namespace plumb
