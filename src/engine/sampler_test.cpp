// The sampler against transformers' logits warpers, and its draws against the distribution they leave.
#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace plumb {
namespace {

// Equal logits lie across the boundaries of top-k (ids 0 and 7) and top-p (2 and 5; 0 and 7).
const std::vector<double> kLogits = {1.5, -0.25, 3.0, 2.875, 0.5, 3.0, -4.0, 1.5, 2.0, -1.0};

struct Golden {
  SamplerOptions options;
  std::vector<Candidate> kept;
};

// transformers 5.23.0, torch.float64:
//   s = torch.tensor([logits], dtype=torch.float64)
//   if t != 1: s = TemperatureLogitsWarper(t)(None, s)
//   if k: s = TopKLogitsWarper(k)(None, s)
//   if p < 1: s = TopPLogitsWarper(p)(None, s)
//   if m: s = MinPLogitsWarper(m)(None, s)
//   [(i, q) for i, q in enumerate(s.softmax(-1)[0].tolist()) if q > 0]
const std::vector<Golden> kGoldens = {
    {{.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0},
     {{0, 0.058156436466266545},
      {1, 0.010106073301768407},
      {2, 0.26063906568067685},
      {3, 0.23001316815574024},
      {4, 0.021394557347732629},
      {5, 0.26063906568067685},
      {6, 0.00023767206351318828},
      {7, 0.058156436466266545},
      {8, 0.09588375383005425},
      {9, 0.0047737710073043468}}},
    {{.temperature = 0.7, .top_k = 0, .top_p = 1, .min_p = 0},
     {{0, 0.035001386586612254},
      {1, 0.0028730887697966181},
      {2, 0.29834329506308599},
      {3, 0.2495535176404505},
      {4, 0.0083881185723808978},
      {5, 0.29834329506308599},
      {6, 1.3544764640972399e-05},
      {7, 0.035001386586612254},
      {8, 0.071498279877323101},
      {9, 0.00098408707601142396}}},
    {{.temperature = 2.5, .top_k = 0, .top_p = 1, .min_p = 0},
     {{0, 0.097613531438191167},
      {1, 0.048473445163386454},
      {2, 0.1778634508060381},
      {3, 0.16918894794993869},
      {4, 0.06543230688734962},
      {5, 0.1778634508060381},
      {6, 0.010815887582252553},
      {7, 0.097613531438191167},
      {8, 0.11922543653236113},
      {9, 0.035910011396252772}}},
    {{.temperature = 1, .top_k = 3, .top_p = 1, .min_p = 0},
     {{2, 0.34692144824278859}, {3, 0.30615710351442299}, {5, 0.34692144824278859}}},
    {{.temperature = 1, .top_k = 7, .top_p = 1, .min_p = 0},
     {{0, 0.059049112389603038},
      {2, 0.26463976160964797},
      {3, 0.23354376992124007},
      {4, 0.02172295446755686},
      {5, 0.26463976160964797},
      {7, 0.059049112389603038},
      {8, 0.097355527612701012}}},
    {{.temperature = 1, .top_k = 5, .top_p = 1, .min_p = 0},
     {{0, 0.060360316803165504},
      {2, 0.2705161720988899},
      {3, 0.2387296839763117},
      {5, 0.2705161720988899},
      {7, 0.060360316803165504},
      {8, 0.099517338219577339}}},
    {{.temperature = 1, .top_k = 0, .top_p = 0.5, .min_p = 0}, {{2, 0.5}, {5, 0.5}}},
    {{.temperature = 1, .top_k = 0, .top_p = 0.9, .min_p = 0},
     {{2, 0.28789351592574508},
      {3, 0.25406513607865894},
      {5, 0.28789351592574508},
      {7, 0.064237726314206031},
      {8, 0.10591010575564483}}},
    {{.temperature = 0.7, .top_k = 0, .top_p = 0.8, .min_p = 0},
     {{2, 0.35255158946609938}, {3, 0.29489682106780124}, {5, 0.35255158946609938}}},
    {{.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0.1},
     {{0, 0.060360316803165504},
      {2, 0.2705161720988899},
      {3, 0.2387296839763117},
      {5, 0.2705161720988899},
      {7, 0.060360316803165504},
      {8, 0.099517338219577339}}},
    {{.temperature = 1.5, .top_k = 0, .top_p = 1, .min_p = 0.3},
     {{0, 0.088236985446782101},
      {2, 0.23985299413799302},
      {3, 0.22067540758878029},
      {5, 0.23985299413799302},
      {7, 0.088236985446782101},
      {8, 0.12314463324166956}}},
    {{.temperature = 0.8, .top_k = 6, .top_p = 0.85, .min_p = 0.2},
     {{2, 0.31828380109790733},
      {3, 0.27224256202674013},
      {5, 0.31828380109790733},
      {8, 0.091189835777445091}}},
    {{.temperature = 2, .top_k = 7, .top_p = 0.95, .min_p = 0.12},
     {{0, 0.098879755854799509},
      {2, 0.20932844478726778},
      {3, 0.19664587545158879},
      {4, 0.059973603550835676},
      {5, 0.20932844478726778},
      {7, 0.098879755854799509},
      {8, 0.1269641197134411}}},
    {{.temperature = 1, .top_k = 2, .top_p = 0.3, .min_p = 0}, {{5, 1}}},
    {{.temperature = 1, .top_k = 0, .top_p = 0, .min_p = 0}, {{5, 1}}},
    {{.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 1}, {{2, 0.5}, {5, 0.5}}},
};

std::string describe(const SamplerOptions& o) {
  return "temperature " + std::to_string(o.temperature) + ", top-k " + std::to_string(o.top_k) +
         ", top-p " + std::to_string(o.top_p) + ", min-p " + std::to_string(o.min_p);
}

TEST(Sampler, LeavesWhatTheWarpersLeave) {
  for (const Golden& golden : kGoldens) {
    SCOPED_TRACE(describe(golden.options));
    const auto kept = candidates(kLogits, golden.options);
    ASSERT_TRUE(kept.ok());
    ASSERT_EQ(kept.value().size(), golden.kept.size());
    for (std::size_t i = 0; i < golden.kept.size(); ++i) {
      EXPECT_EQ(kept.value()[i].id, golden.kept[i].id);
      EXPECT_NEAR(kept.value()[i].probability, golden.kept[i].probability, 1e-14);
    }
  }
}

// Pearson's statistic of 200,000 draws stays below the 1 - 1e-6 quantile of chi-squared for its degrees of freedom.
TEST(Sampler, DrawsWithTheProbabilitiesLeft) {
  for (const Golden& golden : kGoldens) {
    SCOPED_TRACE(describe(golden.options));
    SamplerOptions options = golden.options;
    options.seed = 7;
    Sampler sampler(options);
    constexpr int kDraws = 200000;
    std::vector<double> counts(kLogits.size(), 0);
    for (int i = 0; i < kDraws; ++i) {
      const auto id = sampler.choose(kLogits);
      ASSERT_TRUE(id.ok());
      counts[static_cast<std::size_t>(id.value())] += 1;
    }
    double statistic = 0;
    double outside = kDraws;
    for (const Candidate& c : golden.kept) {
      const double expected = c.probability * kDraws;
      const double count = counts[static_cast<std::size_t>(c.id)];
      statistic += (count - expected) * (count - expected) / expected;
      outside -= count;
    }
    EXPECT_EQ(outside, 0);
    constexpr double kQuantile[] = {0, 23.9, 27.6, 30.7, 33.4, 35.9, 38.3, 40.5, 42.7, 44.8};
    EXPECT_LE(statistic, kQuantile[golden.kept.size() - 1]);
  }
}

TEST(Sampler, IsGreedyUnlessATemperatureIsGiven) {
  Sampler sampler({.temperature = 0, .top_k = 0, .top_p = 0.1, .min_p = 0, .seed = 3});
  for (int i = 0; i < 10; ++i)
    EXPECT_EQ(sampler.choose(kLogits).value(), 2);  // ids 2 and 5 tie
}

TEST(Sampler, RepeatsItselfForASeed) {
  const SamplerOptions options = {
      .temperature = 1.5, .top_k = 0, .top_p = 1, .min_p = 0, .seed = 12345};
  Sampler a(options);
  Sampler b(options);
  SamplerOptions other = options;
  other.seed = 12346;
  Sampler c(other);
  int differ = 0;
  for (int i = 0; i < 100; ++i) {
    const auto id = a.choose(kLogits).value();
    EXPECT_EQ(b.choose(kLogits).value(), id);
    differ += c.choose(kLogits).value() == id ? 0 : 1;
  }
  EXPECT_GT(differ, 10);
}

// The standard fixes mt19937_64, and 53 of its bits are scaled here: the draws are the same with every compiler.
TEST(Sampler, DrawsTheSameEverywhere) {
  Sampler sampler({.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0, .seed = 0});
  std::vector<std::int32_t> ids;
  const std::vector<double> flat(1000, 0.0);
  for (int i = 0; i < 6; ++i)
    ids.push_back(sampler.choose(flat).value());
  // Python: the first six outputs of mt19937_64 seeded with 0, (x >> 11) * 2**-53 * 1000, rounded down.
  EXPECT_EQ(ids, (std::vector<std::int32_t>{159, 992, 39, 597, 542, 57}));
}

TEST(Sampler, RefusesLogitsThatAreNotNumbers) {
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity(),
                           -std::numeric_limits<double>::infinity()}) {
    for (const double temperature : {0.0, 1.0}) {
      std::vector<double> logits = kLogits;
      logits[4] = bad;
      Sampler sampler({.temperature = temperature, .top_k = 0, .top_p = 1, .min_p = 0, .seed = 0});
      const auto id = sampler.choose(logits);
      ASSERT_FALSE(id.ok());
      EXPECT_NE(id.error().message.find("the logit of id 4 is"), std::string::npos)
          << id.error().message;
    }
  }
  Sampler sampler({});
  EXPECT_FALSE(sampler.choose({}).ok());
}

TEST(Sampler, StandsExtremeTemperaturesAndLogits) {
  const std::vector<double> wide = {-1e308, 1e308, 0.0};
  for (const double temperature : {5e-324, 1e-10, 1.0, 1e308}) {
    const auto kept = candidates(
        wide, {.temperature = temperature, .top_k = 0, .top_p = 1, .min_p = 0, .seed = 0});
    ASSERT_TRUE(kept.ok());
    double total = 0;
    for (const Candidate& c : kept.value())
      total += c.probability;
    EXPECT_NEAR(total, 1, 1e-12) << temperature;
    Sampler sampler({.temperature = temperature, .top_k = 0, .top_p = 1, .min_p = 0, .seed = 0});
    EXPECT_TRUE(sampler.choose(wide).ok());
  }
}

TEST(Sampler, NamesAnOptionThatIsOutOfRange) {
  const double nan = std::nan("");
  EXPECT_TRUE(SamplerOptions{}.check().ok());
  EXPECT_EQ((SamplerOptions{.temperature = -1}).check().error().message,
            "temperature is -1, but must be a number from 0 (greedy) up");
  EXPECT_FALSE((SamplerOptions{.temperature = nan}).check().ok());
  EXPECT_FALSE(
      (SamplerOptions{.temperature = std::numeric_limits<double>::infinity()}).check().ok());
  EXPECT_FALSE((SamplerOptions{.top_k = -1}).check().ok());
  EXPECT_FALSE((SamplerOptions{.top_p = 1.5}).check().ok());
  EXPECT_FALSE((SamplerOptions{.top_p = nan}).check().ok());
  EXPECT_FALSE((SamplerOptions{.min_p = -0.1}).check().ok());
  EXPECT_FALSE((SamplerOptions{.min_p = nan}).check().ok());
}

TEST(Argmax, TakesTheLowestOfEquals) {
  EXPECT_EQ(argmax(kLogits), 2);
  EXPECT_EQ(argmax(std::vector<double>{-3.0}), 0);
  EXPECT_EQ(argmax(std::vector<double>{-0.0, 0.0}), 0);
}

TEST(LogSoftmax, SumsToOneAndShiftsWithTheLogits) {
  const auto result = log_softmax(kLogits);
  double total = 0;
  for (std::size_t i = 0; i < result.size(); ++i) {
    total += std::exp(result[i]);
    EXPECT_NEAR(result[i] - result[0], kLogits[i] - kLogits[0], 1e-14);
  }
  EXPECT_NEAR(total, 1, 1e-14);
  EXPECT_NEAR(log_softmax(std::vector<double>{1e308, 1e308})[1], -std::log(2.0), 1e-15);
  EXPECT_TRUE(log_softmax({}).empty());
}

}  // namespace
}  // namespace plumb
