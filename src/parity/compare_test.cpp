// What two traces are found to be: equal, apart by a fault or by rounding, or of no answer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>

#include "core/float_bits.h"
#include "parity/compare_test_support.h"

namespace plumb {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

TEST(Compare, EqualTracesAgree) {
  const Comparison result = compared(plain(), plain());
  EXPECT_EQ(to_string(result.verdict), "agree");
  EXPECT_EQ(result.stages.size(), 9U);
  EXPECT_TRUE(result.transforms.empty());
  EXPECT_TRUE(result.not_observed.empty());
  EXPECT_THAT(result.summary, HasSubstr("every value is equal"));
}

TEST(Compare, OneSideHasMoreTokensAtItsStart) {
  MadeTrace a = plain();
  a.token_ids.insert(a.token_ids.begin(), {0, 0, 0});
  a.steps = {{0, kTokens + 3}};
  for (MadeTensor& tensor : a.tensors) {
    const std::int64_t width = *element_count(tensor.shape) / kTokens;
    tensor.values.insert(tensor.values.begin(), static_cast<std::size_t>(3 * width), 0.125);
    tensor.shape[0] += 3;
  }
  const Comparison result = compared(a, plain());
  EXPECT_EQ(to_string(result.verdict), "agree") << result.summary;
  EXPECT_EQ(result.tokens.shift, -3);
  EXPECT_THAT(result.not_observed, Contains(HasSubstr("A has 3 more tokens at its start")));
}

TEST(Compare, OnlyPositionsBeforeTheIdsPart) {
  MadeTrace a = plain();
  a.token_ids[5] = 15;
  for (MadeTensor& tensor : a.tensors) {
    const std::int64_t width = *element_count(tensor.shape) / kTokens;
    for (std::int64_t i = 5 * width; i < kTokens * width; ++i)
      tensor.values[static_cast<std::size_t>(i)] = 9;
  }
  const Comparison result = compared(a, plain());
  EXPECT_EQ(to_string(result.verdict), "agree") << result.summary;
  EXPECT_EQ(result.stages[0].measure.positions, 5);
  EXPECT_THAT(result.not_observed,
              Contains(HasSubstr("positions from 5 on: the ids fed differ there (A 15, B 8)")));
}

TEST(Compare, WhatHasNoAnswerSaysSo) {
  const auto error_of = [](const MadeTrace& a, const MadeTrace& b) {
    const Trace left = open_made(a);
    const Trace right = open_made(b);
    const auto result = compare(left, right, nullptr);
    return result.ok() ? std::string(to_string(result.value().verdict)) : result.error().message;
  };
  MadeTrace other = plain();
  other.token_ids = {1, 1, 1, 1, 1, 1, 3};
  EXPECT_THAT(error_of(plain(), other), HasSubstr("no token in common"));
  MadeTrace named = plain();
  named.model_type = "llama";
  MadeTrace others = plain();
  others.model_type = "qwen3";
  EXPECT_THAT(error_of(named, others), HasSubstr("different models"));
  MadeTrace nothing = plain();
  nothing.tensors = {stage("layers.0.unheard", {23}, 1)};
  EXPECT_EQ(error_of(plain(), nothing), "incomparable");
  MadeTrace broken = plain();
  for (MadeTensor& tensor : broken.tensors)
    tensor.values.assign(tensor.values.size(), std::nan(""));
  EXPECT_EQ(error_of(broken, plain()), "incomparable");
  // On one stage only it is a fault.
  MadeTrace partly = plain();
  tensor_of(partly, "layers.0.residual").values[3] = std::nan("");
  EXPECT_EQ(error_of(partly, plain()), "differ");
}

TEST(Compare, FindsWhereAFaultIsLargest) {
  MadeTrace a = plain();
  MadeTensor& q = tensor_of(a, "layers.0.attn.q");
  const double was = q.values[static_cast<std::size_t>((4 * kHeads + 2) * kDim + 6)];
  q.values[static_cast<std::size_t>((4 * kHeads + 2) * kDim + 6)] = was + 0.5;
  const Comparison result = compared(a, plain());
  ASSERT_TRUE(result.first_fault.has_value());
  const ComparedStage& found = result.stages[*result.first_fault];
  EXPECT_EQ(found.stage, "layers.0.attn.q");
  ASSERT_TRUE(found.measure.largest.has_value());
  EXPECT_EQ(found.measure.largest->position, 4);
  EXPECT_EQ(found.measure.largest->index, (std::vector<std::int64_t>{2, 6}));
  EXPECT_DOUBLE_EQ(found.measure.largest->b, was);
  EXPECT_NEAR(found.measure.largest->a - found.measure.largest->b, 0.5, 1e-6);
  EXPECT_EQ(found.measure.worst_position, 4);
}

// Files hold tensors in any order; without the manifest's list the usual order of execution tells which fault comes first.
TEST(Compare, TheFirstFaultIsTheFirstExecuted) {
  MadeTrace a = plain();
  tensor_of(a, "layers.0.attn.q").values[0] += 1;
  tensor_of(a, "layers.0.residual").values[0] += 1;
  std::reverse(a.tensors.begin(), a.tensors.end());
  const Comparison result = compared(a, plain());
  ASSERT_TRUE(result.first_fault.has_value());
  EXPECT_EQ(result.stages[*result.first_fault].stage, "layers.0.attn.q");
  EXPECT_EQ(result.stages.front().stage, "embed");
  EXPECT_EQ(result.stages.back().stage, "logits");
}

TEST(Compare, RoundingIsNoFaultAndAFactorIs) {
  MadeTrace a = plain();
  a.dtype = "bfloat16";
  for (MadeTensor& tensor : a.tensors)
    tensor.dtype = DType::kBF16;
  const Comparison rounded = compared(a, plain());
  EXPECT_EQ(to_string(rounded.verdict), "agree") << rounded.summary;
  EXPECT_EQ(rounded.stages[0].measure.bit_match, 1);  // once both are bfloat16
  ASSERT_TRUE(rounded.stages[0].r_a.has_value());     // float32 stands for the reference
  for (double& value : tensor_of(a, "layers.0.residual").values)
    value *= 1.05;
  const Comparison scaled = compared(a, plain());
  ASSERT_TRUE(scaled.first_fault.has_value());
  EXPECT_EQ(scaled.stages[*scaled.first_fault].stage, "layers.0.residual");
  EXPECT_THAT(scaled.summary, HasSubstr("A is B times 1.0"));
}

// With nothing captured between, logits carry what all layers added: 30 units are no fault then, and 600 are.
TEST(Compare, LogitsAloneMayBeFarther) {
  MadeTrace b = plain();
  std::erase_if(b.tensors, [](const MadeTensor& tensor) { return tensor.name != "0/logits"; });
  for (const auto& [units, agree] : {std::pair{30.0, true}, std::pair{600.0, false}}) {
    MadeTrace a = b;
    for (std::size_t i = 0; i < a.tensors[0].values.size(); ++i)
      a.tensors[0].values[i] *= 1 + units * 0x1p-24 * (i % 2 == 0 ? 1 : -1);
    EXPECT_EQ(compared(a, b).verdict == ComparisonVerdict::kAgree, agree) << units;
  }
}

TEST(Compare, ExpertsInAnotherOrderAndNearTies) {
  MadeTrace b = plain();
  b.dtype = "bfloat16";
  constexpr std::int64_t kExperts = 5;
  MadeTensor logits = stage("layers.0.moe.logits", {kExperts}, 51);
  MadeTensor ids = stage("layers.0.moe.ids", {2}, 0);
  ids.dtype = DType::kI32;
  MadeTensor weights = stage("layers.0.moe.weights", {2}, 0);
  for (std::int64_t t = 0; t < kTokens; ++t) {
    const double row[] = {0.1, 2.0, 1.0, -1.0, 1.004};  // 2 and 4 are a near tie in bfloat16
    for (std::int64_t e = 0; e < kExperts; ++e)
      logits.values[static_cast<std::size_t>(t * kExperts + e)] = row[e];
    ids.values[static_cast<std::size_t>(2 * t)] = 1;
    ids.values[static_cast<std::size_t>(2 * t + 1)] = 4;
    weights.values[static_cast<std::size_t>(2 * t)] = 0.7;
    weights.values[static_cast<std::size_t>(2 * t + 1)] = 0.3;
  }
  b.tensors.insert(b.tensors.end() - 2, {logits, weights, ids});
  MadeTrace a = b;
  for (double& value : tensor_of(a, "layers.0.moe.logits").values)
    value += value == 1.0 ? 0.008 : 0;
  auto& chosen = tensor_of(a, "layers.0.moe.ids").values;
  auto& given = tensor_of(a, "layers.0.moe.weights").values;
  std::swap(chosen[0], chosen[1]);  // another order
  std::swap(given[0], given[1]);
  chosen[3] = 2;  // the tie falls otherwise at position 1
  given[2] = 0.69;
  given[3] = 0.31;
  for (std::int64_t c = 0; c < kHidden; ++c)
    tensor_of(a, "layers.0.residual").values[static_cast<std::size_t>(kHidden + c)] += 0.4;
  const Comparison result = compared(a, b);
  EXPECT_EQ(to_string(result.verdict), "agree") << result.summary;
  EXPECT_THAT(result.notes,
              Contains(HasSubstr("layers.0.moe.ids: near ties fall differently at 1 position")));
  EXPECT_EQ(find(result, "layers.0.residual")->measure.positions, kTokens - 1);
  chosen[3] = 3;  // far from a tie
  EXPECT_EQ(to_string(compared(a, b).verdict), "differ");
}

TEST(Compare, TokensThatTheLogitsDoNotExplain) {
  MadeTrace b = plain();
  auto& logits = tensor_of(b, "logits").values;
  for (std::int64_t i = 0; i < kVocab; ++i)
    logits[static_cast<std::size_t>((kTokens - 1) * kVocab + i)] =
        i == 4 ? 3 : 0.1 * static_cast<double>(i);
  MadeTrace a = b;
  a.generated = {16};
  const Comparison result = compared(a, b);
  EXPECT_EQ(to_string(result.verdict), "sampler");
  EXPECT_THAT(result.summary, HasSubstr("A took 16, B 4"));
  EXPECT_THAT(result.summary, HasSubstr("A sampled"));
  b.generated.clear();  // alone, against its own logits
  EXPECT_EQ(to_string(compared(a, b).verdict), "sampler");
}

TEST(Compare, TwoByteNumbersReadAsFour) {
  MadeTrace a = plain();
  for (double& value : tensor_of(a, "logits").values)
    value = static_cast<double>(std::bit_cast<float>(
        static_cast<std::uint32_t>(float_to_bfloat16(static_cast<float>(value)))));
  EXPECT_THAT(compared(a, plain()).summary,
              HasSubstr("A's numbers are two-byte bfloat16 numbers read as four-byte floats"));
}

}  // namespace
}  // namespace plumb
