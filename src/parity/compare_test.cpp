// Each layout of another engine with sizes that are odd and all different, so that no axis passes for another.
#include "parity/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>

#include "core/float_bits.h"
#include "parity/trace_test_support.h"

namespace plumb {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

constexpr std::int64_t kTokens = 7;
constexpr std::int64_t kHeads = 3;
constexpr std::int64_t kDim = 10;  // of a head
constexpr std::int64_t kKeyHeads = 1;
constexpr std::int64_t kHidden = 11;
constexpr std::int64_t kFfn = 13;
constexpr std::int64_t kVocab = 17;

Shape with_tokens(const Shape& rest, std::int64_t tokens = kTokens) {
  Shape shape{tokens};
  shape.insert(shape.end(), rest.begin(), rest.end());
  return shape;
}

MadeTensor stage(const std::string& name, const Shape& rest, std::uint64_t seed) {
  const Shape shape = with_tokens(rest);
  return {"0/" + name, shape, made_values(seed, *element_count(shape))};
}

// One layer and what stands around it.
MadeTrace plain() {
  MadeTrace made;
  made.token_ids = {5, 9, 2, 14, 3, 8, 1};
  made.generated = {4};
  made.steps = {{0, kTokens}};
  made.tensors = {stage("embed", {kHidden}, 1),
                  stage("layers.0.attn.norm", {kHidden}, 2),
                  stage("layers.0.attn.q", {kHeads, kDim}, 3),
                  stage("layers.0.attn.k", {kKeyHeads, kDim}, 4),
                  stage("layers.0.attn.v", {kKeyHeads, kDim}, 5),
                  stage("layers.0.mlp.gate", {kFfn}, 6),
                  stage("layers.0.mlp.up", {kFfn}, 7),
                  stage("layers.0.residual", {kHidden}, 8),
                  stage("logits", {kVocab}, 9)};
  return made;
}

MadeTensor& tensor_of(MadeTrace& made, const std::string& stage) {
  for (MadeTensor& tensor : made.tensors) {
    if (tensor.name == "0/" + stage) return tensor;
  }
  ADD_FAILURE() << stage;
  return made.tensors[0];
}

void remove_stage(MadeTrace& made, const std::string& stage) {
  std::erase_if(made.tensors,
                [&](const MadeTensor& tensor) { return tensor.name == "0/" + stage; });
}

Comparison compared(const MadeTrace& a, const MadeTrace& b) {
  const Trace left = open_made(a);
  const Trace right = open_made(b);
  auto result = compare(left, right, nullptr);
  EXPECT_TRUE(result.ok()) << (result.ok() ? "" : result.error().message);
  return result.ok() ? std::move(result).value() : Comparison{};
}

const ComparedStage* find(const Comparison& comparison, const std::string& name) {
  for (const ComparedStage& stage : comparison.stages) {
    if (stage.stage == name) return &stage;
  }
  return nullptr;
}

// `a` holds plain()'s values in another form: every value is found again, equal, and the form is said.
void expect_form(const MadeTrace& a, const std::string& stage, const std::string& words,
                 std::int64_t positions = kTokens) {
  for (const bool turned : {false, true}) {
    const Comparison result = turned ? compared(plain(), a) : compared(a, plain());
    EXPECT_EQ(to_string(result.verdict), "agree") << result.summary;
    const ComparedStage* found = find(result, stage);
    ASSERT_NE(found, nullptr) << stage << (turned ? " turned" : "");
    EXPECT_EQ(found->measure.bit_match, 1) << stage;
    EXPECT_EQ(found->measure.positions, positions);
    EXPECT_THAT(found->transforms, Contains(HasSubstr(words)))
        << stage << (turned ? " turned" : "");
  }
}

TEST(Compare, EqualTracesAgree) {
  const Comparison result = compared(plain(), plain());
  EXPECT_EQ(to_string(result.verdict), "agree");
  EXPECT_EQ(result.stages.size(), 9U);
  EXPECT_TRUE(result.transforms.empty());
  EXPECT_TRUE(result.not_observed.empty());
  EXPECT_THAT(result.summary, HasSubstr("every value is equal"));
}

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
