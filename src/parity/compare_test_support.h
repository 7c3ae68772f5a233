// The small trace of one layer that the tests of `compare` put into other forms. Sizes are odd and all different, so that no axis passes
// for another.
#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "parity/compare.h"
#include "parity/trace_test_support.h"

namespace plumb {

inline constexpr std::int64_t kTokens = 7;
inline constexpr std::int64_t kHeads = 3;
inline constexpr std::int64_t kDim = 10;  // of a head
inline constexpr std::int64_t kKeyHeads = 1;
inline constexpr std::int64_t kHidden = 11;
inline constexpr std::int64_t kFfn = 13;
inline constexpr std::int64_t kVocab = 17;

inline Shape with_tokens(const Shape& rest, std::int64_t tokens = kTokens) {
  Shape shape{tokens};
  shape.insert(shape.end(), rest.begin(), rest.end());
  return shape;
}

inline MadeTensor stage(const std::string& name, const Shape& rest, std::uint64_t seed) {
  const Shape shape = with_tokens(rest);
  return {"0/" + name, shape, made_values(seed, *element_count(shape))};
}

// One layer and what stands around it.
inline MadeTrace plain() {
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

inline MadeTensor& tensor_of(MadeTrace& made, const std::string& stage) {
  for (MadeTensor& tensor : made.tensors) {
    if (tensor.name == "0/" + stage) return tensor;
  }
  ADD_FAILURE() << stage;
  return made.tensors[0];
}

inline void remove_stage(MadeTrace& made, const std::string& stage) {
  std::erase_if(made.tensors,
                [&](const MadeTensor& tensor) { return tensor.name == "0/" + stage; });
}

inline Comparison compared(const MadeTrace& a, const MadeTrace& b) {
  const Trace left = open_made(a);
  const Trace right = open_made(b);
  auto result = compare(left, right, nullptr);
  EXPECT_TRUE(result.ok()) << (result.ok() ? "" : result.error().message);
  return result.ok() ? std::move(result).value() : Comparison{};
}

inline const ComparedStage* find(const Comparison& comparison, const std::string& name) {
  for (const ComparedStage& stage : comparison.stages) {
    if (stage.stage == name) return &stage;
  }
  return nullptr;
}

// `a` holds plain()'s values in another form: every value is found again, equal, and the form is said.
inline void expect_form(const MadeTrace& a, const std::string& stage, const std::string& words,
                        std::int64_t positions = kTokens) {
  for (const bool turned : {false, true}) {
    const Comparison result = turned ? compared(plain(), a) : compared(a, plain());
    EXPECT_EQ(to_string(result.verdict), "agree") << result.summary;
    const ComparedStage* found = find(result, stage);
    ASSERT_NE(found, nullptr) << stage << (turned ? " turned" : "");
    EXPECT_EQ(found->measure.bit_match, 1) << stage;
    EXPECT_EQ(found->measure.positions, positions);
    EXPECT_THAT(found->transforms, ::testing::Contains(::testing::HasSubstr(words)))
        << stage << (turned ? " turned" : "");
  }
}

}  // namespace plumb
