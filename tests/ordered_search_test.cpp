// The last row of logits alone: the search that takes the likeliest causes first names what is planted, and asking for that row alone changes
// no number.
#include "parity/ordered_search.h"

#include <gtest/gtest.h>

#include "unknown_faults.h"

namespace plumb::mutations {
namespace {

class LastRow final : public Captured {
 public:
  explicit LastRow(const Captured& whole) : whole_(whole) {}
  const std::vector<TraceStep>& steps() const override { return whole_.steps(); }
  std::vector<std::int32_t> fed_ids(std::size_t step) const override { return whole_.fed_ids(step); }
  std::shared_ptr<const CapturedValue> value(std::size_t step, std::string_view stage) const override {
    const auto all = step == 0 ? whole_.value(step, stage) : nullptr;
    if (!all) return nullptr;
    Tensor last({1, all->values.width()});
    std::ranges::copy(all->values.row(all->values.tokens() - 1), last.data.begin());
    return std::make_shared<CapturedValue>(CapturedValue{std::move(last), all->dtype});
  }

 private:
  const Captured& whole_;
};

Ids short_prompt() {
  auto ids = prompt_of("qwen3").all();
  ids.resize(12);
  return Ids(std::move(ids));
}

struct Bench {
  Model model = golden::load("qwen3");
  Ids ids = short_prompt();
  ThreadPool pool{2};
  Progress progress;
  Search search{model.network, *model.config, pool, progress};
};

// What the search makes of the last row of a run.
std::optional<Ordered> found_in(Bench& bench, const Captured& recorded) {
  const LastRow last(recorded);
  Checker checker(bench.model.network, last, kFloat32, bench.pool);
  const auto check = checker.check(0, bench.model.network.graph.logits, Reported::kValues);
  if (!check || !check->fails) return std::nullopt;
  const auto within = [&](const Attempt& a) { return a.residual.relative_l2 <= check->budget; };
  return search_in_order(checker, bench.search, *check, within, 0);
}

TEST(OrderedSearch, NamesWhatIsPlanted) {
  Bench bench;
  Source source(bench.model, bench.ids, Captures::kLogits, 7);
  int found = 0;
  for (int i = 0; i < 4; ++i) {
    const auto group = source.next(1, bench.pool);
    ASSERT_EQ(group.size(), 1);
    const auto ordered = found_in(bench, *source.recorded());
    if (!ordered) continue;  // it shows in other rows
    ++found;
    EXPECT_TRUE(std::ranges::any_of(ordered->sets, [&](const auto& set) { return set[0].hypothesis.row == group[0]->hypothesis.row; }))
        << group[0]->text();
  }
  EXPECT_GE(found, 3);
}

// The rotary base is among the first that are tried.
TEST(OrderedSearch, EndsAtTheFirstThatExplains) {
  Bench bench;
  const auto list = plants(bench.model);
  const auto base = std::ranges::find_if(list, [](const Plant& plant) { return plant.hypothesis.field == "rope.frequencies.theta"; });
  ASSERT_NE(base, list.end());
  Patch patch;
  ASSERT_TRUE(apply(bench.model.network, *base, patch));
  Recorded recorded(bench.ids, Captures::kLogits);
  ASSERT_TRUE(recorded.run(bench.model.network, patch, Precision::kFp32, bench.pool));
  const auto ordered = found_in(bench, recorded);
  ASSERT_TRUE(ordered);
  ASSERT_FALSE(ordered->sets.empty());
  EXPECT_EQ(ordered->sets[0][0].hypothesis.field, "rope.frequencies.theta");
  EXPECT_LT(ordered->tried, 60);
}

TEST(OrderedSearch, WhatNoCatalogueHasIsUnexplained) {
  Bench bench;
  const auto faults = unknown_faults(bench.model.network);
  Recorded recorded(bench.ids, Captures::kLogits);
  ASSERT_TRUE(recorded.run(bench.model.network, faults[0].patch, Precision::kFp32, bench.pool));
  const auto ordered = found_in(bench, recorded);
  ASSERT_TRUE(ordered);
  EXPECT_TRUE(ordered->sets.empty());
  EXPECT_GT(ordered->tried, 100);
}

TEST(OrderedSearch, TheLastRowAloneIsThatOfAll) {
  Bench bench;
  Recorded recorded(bench.ids, Captures::kLogits);
  ASSERT_TRUE(recorded.run(bench.model.network, {}, Precision::kFp32, bench.pool));
  const LastRow last(recorded);
  Checker checker(bench.model.network, last, kFloat32, bench.pool);
  const auto check = checker.check(0, bench.model.network.graph.logits, Reported::kValues);
  ASSERT_TRUE(check);
  const Trial trial(checker, *check, {});
  int tried = 0;
  for (const Plant& plant : plants(bench.model)) {
    Patch patch;
    if (plant.hypothesis.later || !apply(bench.model.network, plant, patch)) continue;
    const auto touched = touched_stages(bench.model.network, patch);
    const Trial::Question question{.patch = patch, .touched = &touched};
    const auto answer = trial.under(std::span(&question, 1));
    EXPECT_EQ(answer[0].residual.relative_l2, checker.under(*check, patch).relative_l2) << plant.text();
    if (++tried == 40) break;
  }
  EXPECT_EQ(tried, 40);
}

}  // namespace
}  // namespace plumb::mutations
