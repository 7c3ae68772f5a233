// Each layout of another engine: axes, heads, padding, fused projections, names, prefill against decode.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "parity/compare_test_support.h"

namespace plumb {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

TEST(Compare, HeadsBeforeTokens) {
  MadeTrace a = plain();
  MadeTensor& q = tensor_of(a, "layers.0.attn.q");
  q.values = rearranged(q.values, q.shape, {kHeads, kTokens, kDim}, [](const Shape& i) {
    return Shape{i[1], i[0], i[2]};
  });
  q.shape = {kHeads, kTokens, kDim};
  expect_form(a, "layers.0.attn.q", "tokens on axis 1");
}

TEST(Compare, ChannelsBeforeHeads) {
  MadeTrace a = plain();
  MadeTensor& q = tensor_of(a, "layers.0.attn.q");
  q.values = rearranged(q.values, q.shape, {kTokens, kDim, kHeads}, [](const Shape& i) {
    return Shape{i[0], i[2], i[1]};
  });
  q.shape = {kTokens, kDim, kHeads};
  expect_form(a, "layers.0.attn.q", "in the other order");
}

TEST(Compare, HiddenBeforeTokens) {
  MadeTrace a = plain();
  MadeTensor& x = tensor_of(a, "embed");
  x.values = rearranged(x.values, x.shape, {kHidden, kTokens}, [](const Shape& i) {
    return Shape{i[1], i[0]};
  });
  x.shape = {kHidden, kTokens};
  expect_form(a, "embed", "tokens on axis 1");
}

TEST(Compare, BatchAxis) {
  MadeTrace a = plain();
  for (MadeTensor& tensor : a.tensors)
    tensor.shape.insert(tensor.shape.begin(), 1);
  expect_form(a, "layers.0.attn.q", "batch axis");
}

TEST(Compare, HeadsInAnotherOrder) {
  MadeTrace a = plain();
  MadeTensor& q = tensor_of(a, "layers.0.attn.q");
  q.values = rearranged(q.values, q.shape, q.shape, [](const Shape& i) {
    return Shape{i[0], (i[1] + 1) % kHeads, i[2]};
  });
  const Comparison result = compared(a, plain());
  const ComparedStage* found = find(result, "layers.0.attn.q");
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->measure.bit_match, 1);
  EXPECT_THAT(found->transforms, Contains(HasSubstr("heads of 10 in the order 2, 0, 1")));
}

TEST(Compare, RotaryPairsAsNeighbours) {
  MadeTrace a = plain();
  MadeTensor& q = tensor_of(a, "layers.0.attn.q");
  // Channel 2j of a's head is channel j of b's, 2j + 1 is j + half.
  q.values = rearranged(q.values, q.shape, q.shape, [](const Shape& i) {
    return Shape{i[0], i[1], i[2] % 2 == 0 ? i[2] / 2 : kDim / 2 + i[2] / 2};
  });
  const Comparison result = compared(a, plain());
  const ComparedStage* found = find(result, "layers.0.attn.q");
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->measure.bit_match, 1);
  EXPECT_THAT(found->transforms, Contains(HasSubstr("neighbouring channels are the rotary pairs")));
}

TEST(Compare, PaddedOnEitherSide) {
  for (const std::int64_t left : {4, 0, 1}) {
    constexpr std::int64_t kRows = kTokens + 4;
    MadeTrace a = plain();
    for (MadeTensor& tensor : a.tensors) {
      const std::int64_t width = *element_count(tensor.shape) / kTokens;
      std::vector<double> values(static_cast<std::size_t>(kRows * width), 0.25);
      std::copy(tensor.values.begin(), tensor.values.end(), values.begin() + left * width);
      tensor.values = values;
      tensor.shape[0] = kRows;
    }
    expect_form(a, "layers.0.residual",
                "is padded: 11 rows for 7 tokens, " + std::to_string(left) + " on the left and " +
                    std::to_string(4 - left));
  }
}

TEST(Compare, TrimmedOnEitherSide) {
  for (const std::int64_t left : {2, 0}) {
    MadeTrace a = plain();
    MadeTensor& x = tensor_of(a, "layers.0.residual");
    x.values = {x.values.begin() + left * kHidden,
                x.values.begin() + (left + kTokens - 2) * kHidden};
    x.shape[0] = kTokens - 2;
    expect_form(
        a, "layers.0.residual",
        "is trimmed: 5 rows for 7 tokens, " + std::to_string(left) + " left out at the start",
        kTokens - 2);
  }
}

TEST(Compare, LastTokensLogitsAlone) {
  MadeTrace a = plain();
  MadeTensor& logits = tensor_of(a, "logits");
  logits.values = {logits.values.end() - kVocab, logits.values.end()};
  logits.shape = {1, kVocab};
  expect_form(a, "logits", "the last token alone", 1);
  logits.shape = {kVocab};
  expect_form(a, "logits", "the last token alone", 1);
}

// q, k and v one after another, and group by group.
TEST(Compare, FusedProjections) {
  const MadeTrace b = plain();
  MadeTrace a = plain();
  const auto q = tensor_of(a, "layers.0.attn.q").values;
  const auto k = tensor_of(a, "layers.0.attn.k").values;
  const auto v = tensor_of(a, "layers.0.attn.v").values;
  std::vector<double> fused;
  for (std::int64_t t = 0; t < kTokens; ++t) {
    fused.insert(fused.end(), q.begin() + t * kHeads * kDim, q.begin() + (t + 1) * kHeads * kDim);
    fused.insert(fused.end(), k.begin() + t * kDim, k.begin() + (t + 1) * kDim);
    fused.insert(fused.end(), v.begin() + t * kDim, v.begin() + (t + 1) * kDim);
  }
  for (const char* name : {"attn.q", "attn.k", "attn.v"})
    remove_stage(a, std::string("layers.0.") + name);
  a.tensors.push_back({"0/blk.0.qkv", {kTokens, (kHeads + 2) * kDim}, fused});
  expect_form(a, "layers.0.attn.q", "channels 0 to 29 of 50");
  expect_form(a, "layers.0.attn.k", "channels 30 to 39 of 50");
  expect_form(a, "layers.0.attn.v", "channels 40 to 49 of 50");
}

TEST(Compare, FusedByGroups) {
  constexpr std::int64_t kGroups = 3;
  constexpr std::int64_t kPer = 2;  // query heads of a group
  MadeTrace b = plain();
  tensor_of(b, "layers.0.attn.q") = stage("layers.0.attn.q", {kGroups * kPer, kDim}, 21);
  tensor_of(b, "layers.0.attn.k") = stage("layers.0.attn.k", {kGroups, kDim}, 22);
  tensor_of(b, "layers.0.attn.v") = stage("layers.0.attn.v", {kGroups, kDim}, 23);
  MadeTrace a = b;
  std::vector<double> fused;
  for (std::int64_t t = 0; t < kTokens; ++t) {
    for (std::int64_t g = 0; g < kGroups; ++g) {
      const auto take = [&](const char* name, std::int64_t heads) {
        const auto& values = tensor_of(b, name).values;
        const auto first = values.begin() + (t * kGroups + g) * heads * kDim;
        fused.insert(fused.end(), first, first + heads * kDim);
      };
      take("layers.0.attn.q", kPer);
      take("layers.0.attn.k", 1);
      take("layers.0.attn.v", 1);
    }
  }
  for (const char* name : {"attn.q", "attn.k", "attn.v"})
    remove_stage(a, std::string("layers.0.") + name);
  a.tensors.push_back(
      {"0/model.layers.0.self_attn.qkv_proj", {kTokens, kGroups * (kPer + 2) * kDim}, fused});
  const Comparison result = compared(a, b);
  EXPECT_EQ(to_string(result.verdict), "agree") << result.summary;
  const std::pair<const char*, const char*> wanted[] = {
      {"layers.0.attn.q", "of each group of 40 channels, those from 0 to 19"},
      {"layers.0.attn.k", "of each group of 40 channels, those from 20 to 29"},
      {"layers.0.attn.v", "of each group of 40 channels, those from 30 to 39"}};
  for (const auto& [name, words] : wanted) {
    const ComparedStage* found = find(result, name);
    ASSERT_NE(found, nullptr) << name;
    EXPECT_EQ(found->measure.bit_match, 1) << name;
    EXPECT_THAT(found->transforms, Contains(HasSubstr(words)));
  }
}

TEST(Compare, GateAndUpInterleaved) {
  MadeTrace a = plain();
  const auto gate = tensor_of(a, "layers.0.mlp.gate").values;
  const auto up = tensor_of(a, "layers.0.mlp.up").values;
  std::vector<double> fused;
  for (std::size_t i = 0; i < gate.size(); ++i) {
    fused.push_back(gate[i]);
    fused.push_back(up[i]);
  }
  remove_stage(a, "layers.0.mlp.gate");
  remove_stage(a, "layers.0.mlp.up");
  a.tensors.push_back({"0/layers.0.mlp.gate_up_proj", {kTokens, 2 * kFfn}, fused});
  expect_form(a, "layers.0.mlp.gate", "every second channel of 26 from 0");
  expect_form(a, "layers.0.mlp.up", "every second channel of 26 from 1");
}

// Known names of other engines, names that nobody knows (content), and values that agree nowhere (order).
TEST(Compare, NamesOfOtherEngines) {
  const std::pair<const char*, const char*> kNames[] = {
      {"embed", "inp_embd"},
      {"layers.0.attn.norm", "attn_norm-0"},
      {"layers.0.attn.q", "Qcur-0"},
      {"layers.0.attn.k", "blk.0.attn_k"},
      {"layers.0.attn.v", "model.layers.0.self_attn.v_proj"},
      {"layers.0.mlp.gate", "blk.0.thing"},
      {"layers.0.mlp.up", "blk.0.other"},
      {"layers.0.residual", "l_out-0"},
      {"logits", "result_output"}};
  MadeTrace a = plain();
  for (const auto& [ours, theirs] : kNames)
    tensor_of(a, ours).name = std::string("0/") + theirs;
  for (const bool turned : {false, true}) {
    const Comparison result = turned ? compared(plain(), a) : compared(a, plain());
    EXPECT_EQ(to_string(result.verdict), "agree") << result.summary;
    EXPECT_EQ(result.stages.size(), 9U);
    for (const auto& [ours, theirs] : kNames) {
      const ComparedStage* found = find(result, ours);
      ASSERT_NE(found, nullptr) << ours;
      EXPECT_EQ(turned ? found->b_name : found->a_name, theirs);
      EXPECT_EQ(found->measure.bit_match, 1);
    }
  }
}

TEST(Compare, WhatNothingElseTellsIsPairedInOrder) {
  MadeTrace a;
  a.token_ids = plain().token_ids;
  a.steps = {{0, kTokens}};
  MadeTrace b = a;
  a.tensors = {stage("blk.0.alpha", {kHidden}, 1), stage("blk.0.beta", {kHidden}, 2)};
  b.tensors = {stage("layers.0.attn.norm", {kHidden}, 31),
               stage("layers.0.attn.out", {kHidden}, 32)};
  const Comparison result = compared(a, b);
  EXPECT_EQ(to_string(result.verdict), "differ");
  ASSERT_EQ(result.stages.size(), 2U);
  EXPECT_EQ(result.stages[0].a_name, "blk.0.alpha");
  EXPECT_EQ(result.stages[0].by, MatchedBy::kOrder);
  EXPECT_EQ(result.stages[1].stage, "layers.0.attn.out");
}

// Rows of probabilities end with the keys of their pass: a decode's are longer than the prefill's, a cache's longer still.
TEST(Compare, PrefillAgainstDecode) {
  constexpr std::int64_t kCache = 12;
  MadeTrace b = plain();
  MadeTensor probs = stage("layers.0.attn.probs", {kHeads, kTokens}, 41);
  for (std::int64_t t = 0; t < kTokens; ++t) {
    for (std::int64_t h = 0; h < kHeads; ++h) {
      for (std::int64_t k = t + 1; k < kTokens; ++k)
        probs.values[static_cast<std::size_t>((t * kHeads + h) * kTokens + k)] = 0;
    }
  }
  b.tensors.push_back(probs);
  for (const bool cached : {false, true}) {
    MadeTrace a = b;
    a.token_ids.resize(4);
    a.generated = {b.token_ids[4], b.token_ids[5], b.token_ids[6], 4};
    a.steps = {{0, 4}, {4, 1}, {5, 1}, {6, 1}};
    a.tensors.clear();
    for (const MadeTensor& whole : b.tensors) {
      const std::int64_t width = *element_count(whole.shape) / kTokens;
      for (std::size_t s = 0; s < a.steps.size(); ++s) {
        const TraceStep step = a.steps[s];
        MadeTensor part{std::to_string(s) + whole.name.substr(1), whole.shape, {}};
        part.shape[0] = step.count;
        const std::int64_t keys = cached ? kCache : step.first + step.count;
        if (whole.name == "0/layers.0.attn.probs") part.shape.back() = keys;
        for (std::int64_t t = step.first; t < step.first + step.count; ++t) {
          for (std::int64_t c = 0; c < width; ++c) {
            const bool is_key = whole.name == "0/layers.0.attn.probs";
            if (!is_key || c % kTokens < keys)
              part.values.push_back(whole.values[static_cast<std::size_t>(t * width + c)]);
            if (is_key && c % kTokens == kTokens - 1)
              part.values.resize(
                  part.values.size() +
                  static_cast<std::size_t>(std::max<std::int64_t>(keys - kTokens, 0)));
          }
        }
        a.tensors.push_back(std::move(part));
      }
    }
    const Comparison result = compared(a, b);
    EXPECT_EQ(to_string(result.verdict), "agree") << result.summary;
    const ComparedStage* found = find(result, "layers.0.attn.probs");
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(found->measure.positions, kTokens);
    EXPECT_EQ(found->measure.bit_match, 1);
    // A probability for a key that only one side holds is a difference.
    a.tensors.back().values.back() = cached ? 0.5 : a.tensors.back().values.back() + 0.5;
    EXPECT_EQ(to_string(compared(a, b).verdict), "differ");
  }
}

// Probabilities under a name that nobody knows, with a longer cache, padded rows and their heads in another order.
TEST(Compare, ProbabilitiesInAnotherForm) {
  constexpr std::int64_t kCache = 12;
  constexpr std::int64_t kRows = kTokens + 2;
  MadeTrace b = plain();
  MadeTensor probs = stage("layers.0.attn.probs", {kHeads, kTokens}, 61);
  for (std::size_t i = 0; i < probs.values.size(); ++i) {
    const auto key = static_cast<std::int64_t>(i) % kTokens;
    const auto token = static_cast<std::int64_t>(i) / (kHeads * kTokens);
    if (key > token) probs.values[i] = 0;
  }
  b.tensors.push_back(probs);
  for (const char* name : {"layers.0.attn.probs", "blk.0.unheard"}) {
    MadeTrace a = b;
    MadeTensor& theirs = a.tensors.back();
    theirs.name = std::string("0/") + name;
    theirs.shape = {kRows, kHeads, kCache};
    theirs.values.assign(static_cast<std::size_t>(kRows * kHeads * kCache), 0);
    for (std::int64_t t = 0; t < kTokens; ++t) {
      for (std::int64_t h = 0; h < kHeads; ++h) {
        for (std::int64_t k = 0; k < kTokens; ++k) {
          theirs.values[static_cast<std::size_t>((t * kHeads + (h + 1) % kHeads) * kCache + k)] =
              probs.values[static_cast<std::size_t>((t * kHeads + h) * kTokens + k)];
        }
      }
    }
    const Comparison result = compared(a, b);
    EXPECT_EQ(to_string(result.verdict), "agree") << result.summary;
    const ComparedStage* found = find(result, "layers.0.attn.probs");
    ASSERT_NE(found, nullptr) << name;
    EXPECT_EQ(found->measure.bit_match, 1);
    EXPECT_THAT(found->transforms, Contains(HasSubstr("heads in the order 1, 2, 0")));
    EXPECT_THAT(found->transforms,
                Contains(HasSubstr("A is padded: 9 rows for 7 tokens, 0 on the left")));
  }
}

}  // namespace
}  // namespace plumb
