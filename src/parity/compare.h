// Comparing two traces stage by stage, without a checkpoint or against one.
//   PLUMB_TRY(const Comparison result, compare(a, b, nullptr));
//   if (result.verdict == ComparisonVerdict::kDiffer) … result.stages[*result.first_fault] …
// Stages are paired by pairing.h, positions by the ids fed. What cannot be compared is listed as not observed, never called
// equal.
#pragma once
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/result.h"
#include "parity/measure.h"
#include "parity/pairing.h"

namespace plumb {

enum class ComparisonVerdict : std::uint8_t { kAgree, kDiffer, kSampler, kIncomparable };
std::string_view to_string(
    ComparisonVerdict verdict);  // "agree", "differ", "sampler", "incomparable"

// The fp64 reference of a checkpoint, and correct runs in A's and B's dtype, all as traces of the same passes.
struct Reference {
  const Trace* exact;
  const Trace* like_a;
  const Trace* like_b;
};

struct ComparedStage {
  std::string stage;
  std::string a_name;
  std::string b_name;
  MatchedBy by = MatchedBy::kName;
  std::vector<std::string> transforms;
  Measure measure;
  double budget = 0;  // of measure.relative_l2: what two right runs in these dtypes may be apart
  double ratio =
      0;  // the worse of relative_l2 / budget and worst_row / (6 budget); infinite where one side only has numbers
  bool fails = false;
  std::optional<double>
      r_a;  // distance to the fp64 reference over that of a correct run in A's dtype
  std::optional<double> r_b;
  std::vector<std::int64_t> positions;  // A's, of measure.row_errors
  std::string words;                    // what is peculiar about the difference, "" for nothing
};

struct Comparison {
  ComparisonVerdict verdict = ComparisonVerdict::kIncomparable;
  std::string summary;                     // one line, without the verdict
  std::vector<ComparedStage> stages;       // in the order of execution
  std::optional<std::size_t> first_fault;  // index into stages
  std::set<std::int64_t> left_out;         // positions of A at which near ties of a choice fall differently
  std::vector<std::string> transforms;     // "attn.q, 4 layers: A holds …", one for each kind
  std::vector<std::string>
      notes;  // benign events: expert ties, near-tied tokens; differing configurations
  std::vector<std::string> not_observed;
  std::string a_words;  // engine, dtype, how much
  std::string b_words;
  TokenMatch tokens;
  std::string r_words;  // what R is measured against, or why it is not
  std::vector<std::int64_t>
      decode_marks;  // A's positions at which a pass other than the first begins
};

// An error when the question has no answer: no common token, different models. `reference` may be null. The result refers to
// nothing.
Result<Comparison> compare(const Trace& a, const Trace& b, const Reference* reference);

}  // namespace plumb
