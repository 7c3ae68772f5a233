// The diagnosis against itself: every hypothesis is planted in our own executor, one at a time, and must be named at its own
// stage from the trace of that run; a right run must raise no alarm. Prints the confusion matrix that docs/diagnosis.md holds.
#include <map>

#include "golden.h"
#include "parity/explain.h"
#include "parity/hypothesis.h"

namespace plumb {
namespace {

// What an executor computed, held in memory, as a trace would hold it.
class Recorded final : public Captured, public StageObserver {
 public:
  explicit Recorded(DType dtype) : dtype_(dtype) {}
  bool wants(std::string_view) const override { return true; }
  void observe(std::string_view name, const Tensor& value) override {
    values_[{steps_.size() - 1, std::string(name)}] = value;
  }
  const std::vector<TraceStep>& steps() const override { return steps_; }
  std::vector<std::int32_t> fed_ids(std::size_t step) const override { return fed_[step]; }
  std::shared_ptr<const CapturedValue> value(std::size_t step,
                                             std::string_view stage) const override {
    const auto found = values_.find({step, std::string(stage)});
    if (found == values_.end()) return nullptr;
    return std::make_shared<CapturedValue>(CapturedValue{found->second, dtype_});
  }

  // A prefill and two decode steps. False when the network yields no finite logits.
  bool run(const BoundGraph& network, const std::vector<std::int32_t>& ids, Precision precision) {
    const auto executor = make_reference_executor(network, precision, 2);
    const auto sequence = executor->start();
    const std::size_t prefill = ids.size() - 2;
    for (std::size_t first = 0; first < ids.size(); first += first == 0 ? prefill : 1) {
      const std::size_t count = first == 0 ? prefill : 1;
      steps_.push_back({static_cast<std::int64_t>(first), static_cast<std::int64_t>(count)});
      fed_.emplace_back(ids.begin() + static_cast<std::ptrdiff_t>(first),
                        ids.begin() + static_cast<std::ptrdiff_t>(first + count));
      const auto logits = executor->forward(
          *sequence, fed_.back(),
          {.rows = LogitRows::kAll, .chunk = 0, .observer = this, .progress = {}});
      if (!logits.ok()) return false;
    }
    return true;
  }

 private:
  DType dtype_;
  std::vector<TraceStep> steps_;
  std::vector<std::vector<std::int32_t>> fed_;
  std::map<std::pair<std::size_t, std::string>, Tensor> values_;
};

std::vector<std::int32_t> prompt_of(const std::string& checkpoint) {
  auto ids = golden::Golden(checkpoint).ids("long");
  ids.resize(34);
  return ids;
}

struct Planted {
  Hypothesis hypothesis;
  double value;
  std::vector<int> stages;
};

// One plant for each hypothesis about the first stage of each role, on all stages of that role.
std::vector<Planted> plants(const Model& model) {
  std::vector<Planted> list;
  std::set<std::string> roles;
  const auto& stages = model.network.graph.stages;
  for (int i = 2; i < static_cast<int>(stages.size()); ++i) {
    const std::string role = name_in_layer(stages[static_cast<std::size_t>(i)].name,
                                           stages[static_cast<std::size_t>(i)].layer);
    if (!roles.insert(role).second) continue;
    std::vector<int> same;
    for (int j = i; j < static_cast<int>(stages.size()); ++j) {
      const Stage& other = stages[static_cast<std::size_t>(j)];
      if (name_in_layer(other.name, other.layer) == role &&
          other.operation.index() == stages[static_cast<std::size_t>(i)].operation.index())
        same.push_back(j);
    }
    for (const Hypothesis& hypothesis : hypotheses_about(model.network, *model.config, i)) {
      if (!hypothesis.range) {
        list.push_back({hypothesis, 0, same});
      } else if (!hypothesis.range->snaps.empty()) {
        for (const double snap : hypothesis.range->snaps) {
          if (snap < hypothesis.range->low || snap > hypothesis.range->high ||
              to_string(FieldValue(snap)) == to_string(hypothesis.expected))
            continue;
          list.push_back({hypothesis, snap, same});
          break;
        }
      }
    }
  }
  return list;
}

class Diagnose : public testing::TestWithParam<std::string> {};

TEST_P(Diagnose, RightRunsRaiseNoAlarm) {
  const Model model = golden::load(GetParam());
  for (const Precision precision : {Precision::kFp64, Precision::kFp32, Precision::kHfBf16}) {
    Recorded recorded(DType::kF32);
    ASSERT_TRUE(recorded.run(model.network, prompt_of(GetParam()), precision));
    ThreadPool pool(2);
    Checker checker(
        model.network, recorded,
        precision == Precision::kHfBf16 ? SuspectType::kBfloat16 : SuspectType::kFloat32, pool);
    for (const Check& check : checker.run({})) {
      EXPECT_FALSE(check.fails) << to_string(precision) << " " << check.stage << " "
                                << check.residual.relative_l2 << " of " << check.budget;
    }
  }
}

TEST_P(Diagnose, PlantedCausesAreNamedAtTheirStage) {
  const Model model = golden::load(GetParam());
  const auto ids = prompt_of(GetParam());
  int planted = 0;
  int named = 0;
  int at_stage = 0;
  std::string missed;
  for (const Planted& plant : plants(model)) {
    Patch patch;
    bool any = false;
    for (const int index : plant.stages) {
      Patch attempt = patch;
      if (!plant.hypothesis.apply(model.network, index, plant.value, attempt)) continue;
      patch = std::move(attempt);
      any = true;
    }
    if (!any) continue;
    Recorded recorded(DType::kF32);
    if (!recorded.run(patched(model.network, patch), ids, Precision::kFp32))
      continue;  // an explosion needs no diagnosis
    ThreadPool pool(2);
    Checker checker(model.network, recorded, SuspectType::kFloat32, pool);
    const auto checks = checker.run({});
    const auto first =
        std::find_if(checks.begin(), checks.end(), [](const Check& check) { return check.fails; });
    if (first == checks.end())
      continue;  // changes nothing here: a cap that no value reaches, a norm of weights that are 1
    ++planted;
    const Explanation explanation = explain(checker, *model.config, checks);
    const auto& findings = explanation.findings;
    const bool right_stage =
        !findings.empty() && (std::find(plant.stages.begin(), plant.stages.end(),
                                        first->value.stage) != plant.stages.end() ||
                              patch.stages.contains(first->value.stage));
    const bool right_row =
        findings.size() == 1 && (findings[0].row == plant.hypothesis.row ||
                                 std::find(findings[0].also.begin(), findings[0].also.end(),
                                           plant.hypothesis.row) != findings[0].also.end());
    at_stage += right_stage ? 1 : 0;
    named += right_row ? 1 : 0;
    if (!right_row || !right_stage) {
      missed += "  row " + plant.hypothesis.row + " (" + plant.hypothesis.field + ") at " +
                first->stage + " came out as";
      for (const Finding& finding : findings)
        missed += " [" + finding.row + " " + finding.field + " " + to_string(finding.found) +
                  " at " + finding.stage + "]";
      missed += "\n";
    }
  }
  std::printf("%s: %d causes planted, %d at their stage, %d named\n%s", GetParam().c_str(), planted,
              at_stage, named, missed.c_str());
  EXPECT_GE(planted, 20);
  EXPECT_EQ(at_stage, planted);
  EXPECT_GE(named, 0.95 * planted);
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, Diagnose,
                         testing::Values("llama", "qwen3", "olmoe", "qwen2", "qwen3_5"),
                         golden::test_name);

}  // namespace
}  // namespace plumb
