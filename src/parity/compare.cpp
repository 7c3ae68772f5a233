// What follows from the stages: R, the choice of tokens, the verdict.
#include "parity/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "parity/compare_budget.h"
#include "parity/compare_stages.h"
#include "parity/compare_tokens.h"

namespace plumb {
namespace {

constexpr double kMostR = 3;  // honest engines differ by this factor from our rounding

// R of each stage: its distance to the fp64 reference over a correct run's.
struct RBy {
  std::map<std::string, double> r;
  std::optional<std::string> first;  // the first stage beyond kMostR
};

// Not of the positions `left_out`.
Result<RBy> r_by_stage(const Trace& side, const Trace& like, const Reference& reference, const std::set<std::int64_t>& left_out) {
  PLUMB_TRY(Comparison own, compare_stages(side, *reference.exact, left_out));
  PLUMB_TRY(Comparison right, compare_stages(like, *reference.exact, left_out));
  if (own.left_out != right.left_out) {
    // A choice that fell otherwise than the reference's, and that lies at the limit of a near tie for one of the two: what one is not
    // judged by, the other is not.
    std::set<std::int64_t> neither = left_out;
    neither.insert(own.left_out.begin(), own.left_out.end());
    neither.insert(right.left_out.begin(), right.left_out.end());
    PLUMB_TRY(own, compare_stages(side, *reference.exact, neither));
    PLUMB_TRY(right, compare_stages(like, *reference.exact, neither));
  }
  std::map<std::string, double> budget;
  for (const ComparedStage& stage : right.stages)
    budget[stage.stage] = stage.measure.relative_l2;
  RBy result;
  // A correct run may be lucky: bit-equal is no budget of nothing. And ours sums in double, where float32 engines add what the
  // order of
  // their sums costs.
  constexpr double kFloat32Sums = 8;
  const double least = run_unit(side) * (run_unit(side) < 0x1p-20 ? kFloat32Sums : 1);
  for (const ComparedStage& stage : own.stages) {
    const auto found = budget.find(stage.stage);
    if (found == budget.end() || is_choice(stage_name(stage.stage).role)) continue;
    const double error = stage.measure.broken > 0 ? std::numeric_limits<double>::infinity()
                                                  : stage.measure.relative_l2;
    const double r = error / std::max(found->second, least);
    result.r[stage.stage] = r;
    if (!(r <= kMostR) && !result.first) result.first = stage.stage;
  }
  return result;
}

void conclude(const Trace& a, const Trace& b, Comparison& c,
              const std::optional<std::string>& a_fault,
              const std::optional<std::string>& b_fault) {
  std::int64_t numbers = 0;
  std::int64_t not_numbers = 0;
  for (const ComparedStage& stage : c.stages) {
    numbers += stage.measure.elements - stage.measure.broken;
    not_numbers += stage.measure.not_numbers + stage.measure.broken;
  }
  if (c.stages.empty() || numbers == 0) {
    c.verdict = ComparisonVerdict::kIncomparable;
    c.summary = not_numbers > 0 ? "nothing but NaN and infinities at the positions in common"
                                : "no stage that both sides hold";
    return;
  }
  const TokenChoice choice = compare_choice_of_tokens(a, b, c);
  for (const std::string& words : choice.notes)
    c.notes.push_back(words);
  for (const std::string& words : choice.not_observed)
    c.not_observed.push_back(words);
  if (c.first_fault) {
    const ComparedStage& stage = c.stages[*c.first_fault];
    c.verdict = ComparisonVerdict::kDiffer;
    const std::string how =
        std::isfinite(stage.ratio) ? fmt::format("relative L2 {:.2e}, {:.3g} times the budget",
                                                 stage.measure.relative_l2, stage.ratio)
        : is_choice(stage_name(stage.stage).role) ? std::string()
                                                  : "one side has numbers where the other has none";
    c.summary = fmt::format("from {} on{}{}{}{}", stage.stage, how.empty() ? "" : ": ", how,
                            stage.words.empty() ? "" : "; ", stage.words);
    if (a_fault || b_fault) {
      c.summary +=
          a_fault && b_fault
              ? fmt::format("; both leave the checkpoint, A at {}, B at {}", *a_fault, *b_fault)
              : fmt::format("; {} leaves the checkpoint at {}, {} does not", a_fault ? "A" : "B",
                            a_fault ? *a_fault : *b_fault, a_fault ? "B" : "A");
    }
  } else if (a_fault || b_fault) {
    c.verdict = ComparisonVerdict::kDiffer;
    c.summary = a_fault && b_fault
                    ? fmt::format("A and B agree, but leave the checkpoint at {}", *a_fault)
                    : fmt::format("{} leaves the checkpoint at {} (R above {:g}), {} does not",
                                  a_fault ? "A" : "B", a_fault ? *a_fault : *b_fault, kMostR,
                                  a_fault ? "B" : "A");
  } else if (!choice.fault.empty()) {
    c.verdict = choice.sampler ? ComparisonVerdict::kSampler : ComparisonVerdict::kDiffer;
    c.summary = choice.fault;
  } else {
    c.verdict = ComparisonVerdict::kAgree;
    double worst = 0;
    std::string where;
    std::int64_t positions = 0;
    for (const ComparedStage& stage : c.stages) {
      positions = std::max(positions, stage.measure.positions);
      if (is_choice(stage_name(stage.stage).role) || stage.ratio <= worst) continue;
      worst = stage.ratio;
      where = stage.stage;
    }
    c.summary =
        fmt::format("{} stage{} at {} position{}, all within the budget of {}", c.stages.size(),
                    c.stages.size() > 1 ? "s" : "", positions, positions > 1 ? "s" : "",
                    run_unit(a) >= run_unit(b) ? run_dtype(a) : run_dtype(b));
    c.summary += where.empty() ? "; every value is equal"
                               : fmt::format("; nearest to it {}, at {:.2g} of it", where, worst);
  }
}

}  // namespace

std::string_view to_string(ComparisonVerdict verdict) {
  constexpr std::string_view kNames[] = {"agree", "differ", "sampler", "incomparable"};
  return kNames[static_cast<std::size_t>(verdict)];
}

Result<Comparison> compare(const Trace& a, const Trace& b, const Reference* reference) {
  PLUMB_TRY(Comparison result, compare_stages(a, b));
  std::optional<std::string> a_fault;
  std::optional<std::string> b_fault;
  if (reference != nullptr) {
    // Where near ties fell differently, the reference's fell as one side's: what is behind them, later positions too, which attend to
    // theirs, has no R.
    std::set<std::int64_t> of_a;
    std::set<std::int64_t> of_b;
    for (std::int64_t position = result.left_out.empty() ? result.tokens.end : *result.left_out.begin(); position < result.tokens.end;
         ++position) {
      of_a.insert(position);
      of_b.insert(position + result.tokens.shift);
    }
    PLUMB_TRY(const RBy left, r_by_stage(a, *reference->like_a, *reference, of_a));
    PLUMB_TRY(const RBy right, r_by_stage(b, *reference->like_b, *reference, of_b));
    for (ComparedStage& stage : result.stages) {
      if (const auto r = left.r.find(stage.stage); r != left.r.end()) stage.r_a = r->second;
      if (const auto r = right.r.find(stage.stage); r != right.r.end()) stage.r_b = r->second;
    }
    a_fault = left.first;
    b_fault = right.first;
    result.r_words =
        "R is the distance to the checkpoint's fp64 reference over that of a correct run in the "
        "same dtype";
  } else if (run_unit(b) < run_unit(a)) {
    // B is finer than A's rounding: it may stand for the reference, against what right runs of A's dtype may be apart.
    for (ComparedStage& stage : result.stages) {
      if (stage.budget > 0 && !is_choice(stage_name(stage.stage).role))
        stage.r_a = stage.measure.relative_l2 / stage.budget;
    }
    result.r_words = fmt::format(
        "B is {}: R of A is its distance to B over the modelled budget of {}; --model measures it",
        run_dtype(b), run_dtype(a));
  } else {
    result.r_words = "R is not computed: it needs the checkpoint (--model)";
  }
  conclude(a, b, result, a_fault, b_fault);
  return result;
}

}  // namespace plumb
