// Causes that a trace cannot tell apart are reported together with a prompt. Causes are planted in our own executor, which is fed so little
// that others explain it as well; on the prompt that is named, each must come out as itself.
#include "mutations.h"
#include "parity/blame.h"

namespace plumb {
namespace {

using mutations::Captures;
using mutations::Plant;

// The patched network is fed the ids and diagnosed from all that it computes.
std::vector<Finding> diagnosed(const Model& model, const Plant& plant, Precision precision, std::vector<std::int32_t> ids, ThreadPool& pool) {
  Patch patch;
  EXPECT_TRUE(apply(model.network, plant, patch));
  const mutations::Ids fed(std::move(ids), 0);
  mutations::Recorded recorded(fed, Captures::kAll);
  EXPECT_TRUE(recorded.run(model.network, patch, precision, pool));
  Checker checker(model.network, recorded, precision == Precision::kHfBf16 ? mutations::kBfloat16 : mutations::kFloat32, pool);
  const auto checks = checker.run();
  return explain(checker, *model.config, checks).findings;
}

// As many as wanted: the checkpoint's prompt, over and over.
std::vector<std::int32_t> first_ids(const std::string& checkpoint, std::int64_t count) {
  const auto all = mutations::prompt_of(checkpoint).all();
  std::vector<std::int32_t> ids;
  while (std::ssize(ids) < count)
    ids.push_back(all[ids.size() % all.size()]);
  return ids;
}

std::optional<double> number(const FieldValue& value) {
  if (const auto* real = std::get_if<double>(&value)) return *real;
  if (const auto* whole = std::get_if<std::int64_t>(&value)) return static_cast<double>(*whole);
  return std::nullopt;
}

// The cause of that field and value, on the stages of one role that it concerns.
Plant plant_of(const Model& model, const std::string& role, const std::string& field, const FieldValue& found) {
  Plant result{{}, 0, {}, role};
  for (int i = 2; i < static_cast<int>(model.network.graph.stages.size()); ++i) {
    if (role_of(model.network.graph.stages[static_cast<std::size_t>(i)]) != role) continue;
    for (const Hypothesis& h : hypotheses_about(model.network, *model.config, i)) {
      if (h.field != field || (h.range ? !number(found) : to_string(h.found) != to_string(found))) continue;
      result.hypothesis = h;
      result.value = h.range ? *number(found) : 0;
      result.stages.push_back(i);
    }
  }
  EXPECT_FALSE(result.stages.empty()) << "no cause " << field << " " << to_string(found) << " at " << role;
  return result;
}

bool is(const Plant& plant, const std::string& field, const FieldValue& found) {
  const Hypothesis& h = plant.hypothesis;
  if (h.field != field) return false;
  if (!h.range) return to_string(h.found) == to_string(found);
  // Of 49 tokens a window of 49 keys is none, and one of 48 is not.
  if (const auto* whole = std::get_if<std::int64_t>(&found)) return static_cast<double>(*whole) == plant.value;
  return number(found) && std::abs(*number(found) - plant.value) <= 0.05 * std::abs(plant.value);
}

bool has(const std::vector<Alternative>& list, const Plant& plant) {
  return std::any_of(list.begin(), list.end(), [&](const Alternative& other) { return is(plant, other.field, other.found); });
}

struct Case {
  std::string checkpoint;
  Precision precision;
  std::int64_t fed;  // tokens, too few
  std::string role;
  std::string field;
  FieldValue found;
  std::string other_row;  // that the data cannot tell from it
  std::string other_field;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.checkpoint << " " << c.role << " " << c.field << " " << to_string(c.found);
}

class TellApart : public testing::TestWithParam<Case> {};

TEST_P(TellApart, TheNamedPromptTellsThem) {
  const Case& c = GetParam();
  const Model model = golden::load(c.checkpoint);
  ThreadPool pool(2);
  const Plant planted = plant_of(model, c.role, c.field, c.found);
  const auto findings = diagnosed(model, planted, c.precision, first_ids(c.checkpoint, c.fed), pool);
  ASSERT_EQ(findings.size(), 1U);
  // Either of the two may be the one that is named: the data say no more.
  const Finding& finding = findings.front();
  const Alternative* other = nullptr;
  for (const Alternative& each : finding.alternatives) {
    if (each.field == c.other_field || is(planted, each.field, each.found)) other = &each;
  }
  ASSERT_NE(other, nullptr) << finding_words(finding);
  const bool named_is_planted = is(planted, finding.field, finding.found);
  EXPECT_TRUE(named_is_planted || is(planted, other->field, other->found));
  EXPECT_EQ(named_is_planted ? other->row : finding.row, c.other_row);
  EXPECT_EQ(std::count(finding.also.begin(), finding.also.end(), other->row), finding.row == other->row ? 0 : 1);
  ASSERT_GT(other->tokens, c.fed);
  EXPECT_NE(other->words.find(std::to_string(other->tokens) + " tokens"), std::string::npos) << other->words;
  // Where the words do not matter, any will do.
  const auto telling = other->ids.empty() ? first_ids(c.checkpoint, other->tokens) : other->ids;
  ASSERT_EQ(std::ssize(telling), other->tokens);
  const Plant first = plant_of(model, c.role, finding.field, finding.found);
  const Plant second = plant_of(model, c.role, other->field, other->found);
  for (const auto& [plant, rival] : {std::pair(&first, &second), std::pair(&second, &first)}) {
    const auto told = diagnosed(model, *plant, c.precision, telling, pool);
    ASSERT_EQ(told.size(), 1U) << plant->text();
    EXPECT_TRUE(is(*plant, told[0].field, told[0].found)) << plant->text() << " came out as " << finding_words(told[0]);
    EXPECT_FALSE(has(told[0].alternatives, *rival)) << plant->text() << " is not told from " << rival->text();
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cases, TellApart,
    testing::Values(
        // One token: at position 0 a rotation shows nothing but its factor.
        Case{"gpt_oss", Precision::kFp32, 1, "attn.q_rope", "rope.attention_factor", 1.0, "35", "rope.present"},
        Case{"gpt_oss", Precision::kFp32, 1, "attn.k_rope", "rope.present", false, "33", "rope.attention_factor"},
        // One row: the epsilon's place is a factor, as is its size.
        Case{"llama", Precision::kFp32, 1, "norm", "norm.eps_place", std::string("outside_root"), "21", "norm.eps"},
        Case{"olmoe", Precision::kFp32, 1, "norm", "norm.eps_place", std::string("outside_root"), "21", "norm.eps"},
        // Values that one token does not reach, experts that the words do not choose.
        Case{"qwen3_5", Precision::kFp32, 1, "linear.conv", "convolution.activation", std::string("gelu_tanh"), "49", "convolution.activation"},
        Case{"deepseek_v4", Precision::kFp32, 2, "moe", "router.order", std::string("select_then_score"), "52", "router.selection_bias"},
        // A window that the prompt does not fill.
        Case{"gemma3", Precision::kHfBf16, 26, "attn", "attend.window", std::monostate{}, "42", "attend.window"},
        Case{"gpt_oss", Precision::kHfBf16, 26, "attn", "attend.window", std::monostate{}, "42", "attend.window"},
        // Frequencies: near the beginning, in bfloat16, another base is another scaling.
        Case{"gpt_oss", Precision::kHfBf16, 2, "attn.q_rope", "rope.frequencies.theta", 1e4, "32", "rope.frequencies.original_length"},
        Case{"llama", Precision::kHfBf16, 4, "attn.q_rope", "rope.frequencies.scaling", std::string("none"), "32",
             "rope.frequencies.original_length"}),
    [](const auto& given) {
      std::string name = given.param.checkpoint + "_" + given.param.role + "_" + given.param.field + "_" + std::to_string(given.param.fed);
      std::replace_if(name.begin(), name.end(), [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
      return name;
    });

}  // namespace
}  // namespace plumb
