// From checks to findings. A check's span is one stage where everything around it was captured, the whole network where only
// logits were.
#include "parity/explain.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "parity/attempts.h"
#include "parity/causes_beside.h"
#include "parity/ladder.h"
#include "parity/look_ahead.h"
#include "parity/ordered_search.h"
#include "parity/reported.h"
#include "parity/structure.h"
#include "parity/tell_apart.h"
#include "parity/weak_faults.h"

namespace plumb {
namespace {

constexpr double kGain = 3;           // a cause must bring the residual down by this factor
constexpr std::size_t kLongSpan = 6;  // stages; beyond, the ladder comes first

class Explainer {
 public:
  Explainer(Checker& checker, const Config& config, const std::vector<Check>& checks, Progress& progress)
      : checker_(checker),
        config_(config),
        search_(checker.network(), config, checker.pool(), progress),
        checks_(checks),
        explained_(checks.size(), false) {}

  Explanation run();

 private:
  struct Outcome {
    std::vector<Attempt> causes;                 // one, or several together
    std::vector<std::vector<std::string>> also;  // of each
    std::vector<std::pair<std::size_t, std::vector<Attempt>>> others;  // which of them is another cause, and all of that set
    std::int64_t rejected = 0;
  };
  Outcome search(const Check& check);
  Outcome search_beside(const Check& check);
  Outcome choose(const Check& check, const std::vector<std::vector<Attempt>>& sets);
  std::size_t spread(const std::vector<Attempt>& causes, std::size_t from,
                     std::vector<std::string>& stages);
  double total(const std::vector<Attempt>& causes, std::size_t from);
  std::vector<int> scope_in(const Check& check, const Attempt& candidate) const { return stages_concerned(checker_.network(), check, candidate, found_); }
  bool follows_from_found(const Check& check) const;
  Patch in_all_layers(const std::vector<Attempt>& causes) const;
  bool reaches(const Check& check, const Attempt& candidate);
  bool explains(const Check& check, const Patch& patch, bool rounds);
  void name(const Check& check, const Outcome& outcome, const std::vector<std::string>& stages,
            Evidence evidence, Explanation& explanation) const;
  std::vector<Alternative> alternatives(const Check& check, const Outcome& outcome, std::size_t which) const;
  void give_up(std::size_t at, const Evidence& evidence, Explanation& explanation);
  bool explain_report(std::size_t at, Evidence evidence, Explanation& explanation);

  Checker& checker_;
  const Config& config_;
  Search search_;
  const std::vector<Check>& checks_;
  std::vector<bool> explained_;
  std::vector<Attempt> found_;  // with the stages at which they were found
  std::vector<int> unexplained_;  // stages of the findings without a cause
  Patch base_;                    // what is taken for granted where a cause is looked for
  std::set<std::size_t> beside_;  // operations at which nothing was found beside what is known
};

bool Explainer::reaches(const Check& check, const Attempt& candidate) {
  const Residual& r = candidate.residual;
  const double gain = candidate.hypothesis.rounds ? 2 : kGain;
  Patch patch = base_;  // what a cause does to the values, it does to their rounding
  if (!(r.relative_l2 < check.residual.relative_l2) || !apply(checker_.network(), candidate, patch)) return false;
  if (candidate.hypothesis.rounds && most_rows_right(checker_, check, patch, base_)) return true;
  if (!(r.relative_l2 * gain < check.residual.relative_l2)) return false;
  if (within(r, check.budget)) return true;
  // What rounds inside is seen in the bits, where an engine's own approximations (of a root, say) move some of them by a whole step.
  constexpr double kMostBits = 0.75;
  const bool by_bits = r.bit_match >= kMostBits && r.bit_match >= kGain * check.residual.bit_match;
  if (candidate.hypothesis.rounds && (by_bits || r.relative_l2 <= kOtherSides * check.residual.relative_l2)) return true;
  return within(r, 10 * check.budget) && within(r, checker_.budget_under(check, patch));
}

// The residuals of the failing checks of the same role under the causes, over their budgets; a few of each pass suffice.
double Explainer::total(const std::vector<Attempt>& causes, std::size_t from) {
  constexpr int kFew = 4;
  double sum = causes.back().residual.relative_l2 / checks_[from].budget;
  std::map<std::size_t, int> used;
  for (std::size_t i = from + 1; i < checks_.size(); ++i) {
    const Check& check = checks_[i];
    if (!check.fails || explained_[i] || used[check.step] == kFew) continue;
    Patch patch = base_;
    bool any = false;
    for (const Attempt& cause : causes) {
      any =
          apply(checker_.network(), cause.hypothesis, scope_in(check, cause), cause.value, patch) ||
          cause.hypothesis.everywhere || any;
    }
    if (!any) continue;
    ++used[check.step];
    sum += std::min(checker_.under(check, patch).relative_l2, check.residual.relative_l2) /
           check.budget;
  }
  return sum;
}

// Of sets of causes that all explain the check, the one that explains most elsewhere; rows of the others that do as well.
Explainer::Outcome Explainer::choose(const Check& check,
                                     const std::vector<std::vector<Attempt>>& sets) {
  constexpr std::size_t kCompared = 8;
  const auto from = static_cast<std::size_t>(&check - checks_.data());
  std::vector<double> totals;
  std::size_t best = 0;
  double least = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < std::min(sets.size(), kCompared); ++i) {
    totals.push_back(total(sets[i], from));
    double cost = 0;
    for (const Attempt& cause : sets[i])
      cost += 1 + complexity(cause);
    constexpr double kContradicted = 100;
    const double score = totals[i] * (1 + 0.4 * cost) * (sets.size() > 1 && contradicted(checker_, checks_, sets[i]) ? kContradicted : 1);
    if (score >= least) continue;
    least = score;
    best = i;
  }
  Outcome outcome{.causes = sets[best], .also = {}, .others = {}, .rejected = 0};
  outcome.also.resize(outcome.causes.size());
  for (std::size_t i = 0; i < totals.size(); ++i) {
    if (i == best || sets[i].size() != sets[best].size() || totals[i] > 2 * totals[best]) continue;
    std::vector<std::size_t> other;  // the causes in which the two sets differ
    for (std::size_t c = 0; c < sets[i].size(); ++c) {
      if (!same_cause(sets[i][c], sets[best][c])) other.push_back(c);
    }
    if (other.size() != 1) continue;
    outcome.others.emplace_back(other[0], sets[i]);
    auto& also = outcome.also[other[0]];
    const std::string& row = sets[i][other[0]].hypothesis.row;
    if (row != sets[best][other[0]].hypothesis.row && std::find(also.begin(), also.end(), row) == also.end()) also.push_back(row);
  }
  return outcome;
}

Explainer::Outcome Explainer::search(const Check& check) {
  if (can_climb(checker_, check) && check.span.size() > kLongSpan) {
    const auto ahead = [&](bool with_another) {
      return look_ahead(checker_, search_, check, with_another, [&](const Attempt& candidate) { return reaches(check, candidate); });
    };
    auto sets = climb(checker_, search_, check, Climb::kSnaps);
    if (sets.empty()) sets = ahead(false);
    if (sets.empty()) sets = climb(checker_, search_, check, Climb::kAll);
    if (sets.empty()) sets = ahead(true);
    if (sets.empty()) return {};
    Outcome outcome = choose(check, sets);
    outcome.rejected = static_cast<std::int64_t>(search_.candidates(check).size()) -
                       static_cast<std::int64_t>(outcome.causes.size());
    return outcome;
  }
  if (auto ordered = search_in_order(checker_, search_, check, [&](const Attempt& candidate) { return reaches(check, candidate); })) {
    const auto tried = static_cast<std::int64_t>(ordered->tried);
    if (ordered->sets.empty()) return {.causes = {}, .also = {}, .others = {}, .rejected = tried};
    Outcome outcome = choose(check, ordered->sets);
    outcome.rejected = tried - static_cast<std::int64_t>(outcome.causes.size());
    return outcome;
  }
  auto list = search_.candidates(check);
  std::vector<std::vector<Attempt>> reaching;
  const auto measure = [&](std::vector<Attempt>& some, Search::Effort effort) {
    search_.measure_all(Trial(checker_, check, {}), check.budget / 4, some, effort);
    std::stable_sort(some.begin(), some.end(), [](const Attempt& a, const Attempt& b) {
      return a.residual.relative_l2 < b.residual.relative_l2;
    });
    for (const Attempt& candidate : some) {
      if (reaches(check, candidate)) reaching.push_back({candidate});
    }
  };
  const bool cheap = check.span.size() <= kLongSpan;
  if (!cheap && check.step > 0) {  // what shows in later passes alone is about what they remember
    std::vector<Attempt> remembered;
    std::ranges::copy_if(list, std::back_inserter(remembered), [](const Attempt& attempt) {
      const Hypothesis& h = attempt.hypothesis;
      return !attempt.narrow &&
             (h.later || h.field == "attend.window" || h.field == "attend.future");
    });
    measure(remembered, Search::Effort::kSolve);
  }
  if (!cheap && reaching.empty()) {
    auto snapped = list;
    measure(snapped, Search::Effort::kSnaps);
  }
  if (reaching.empty()) measure(list, Search::Effort::kSolve);
  const auto rejected = static_cast<std::int64_t>(list.size() - reaching.size());
  if (reaching.empty()) reaching = search_.pairs(checker_, check, {}, check.budget, list);
  if (reaching.empty()) return {.causes = {}, .also = {}, .others = {}, .rejected = rejected};
  Outcome outcome = choose(check, reaching);
  outcome.rejected = rejected;
  return outcome;
}

// Asked once of each operation: most often there is nothing beside, and the values follow from what is known.
Explainer::Outcome Explainer::search_beside(const Check& check) {
  const std::size_t operation = stage_at(checker_.network(), check.value.stage).operation.index();
  if (beside_.contains(operation)) return {};
  base_ = in_all_layers({});
  const auto sets = causes_beside(checker_, search_, check, base_, found_, [&](const Check& left, const Attempt& candidate) { return reaches(left, candidate); });
  Outcome outcome;
  if (!sets.empty()) outcome = choose(check, sets);
  if (sets.empty()) beside_.insert(operation);
  base_ = {};
  return outcome;
}

// The budget was measured without the cause; where the cause is right, what it leaves is of the budget's size.
bool Explainer::explains(const Check& check, const Patch& patch, bool rounds) {
  const Residual r = checker_.under(check, patch);
  const bool nearly = r.relative_l2 <= 4 * check.budget && r.relative_l2 * 10 < check.residual.relative_l2;
  // What rounds has been found to elsewhere: of few numbers that fall on the other side, one may weigh much.
  return within(r, check.budget) || nearly ||
         (rounds && (r.relative_l2 <= 3 * kOtherSides * check.residual.relative_l2 || most_rows_right(checker_, check, patch)));
}

// What earlier passes left, where nobody captured them, was made with the faults that were found: more of each than is known may sit in them. A value
// that depends on it says nothing of its own.
bool Explainer::follows_from_found(const Check& check) const {
  std::vector<int> at_fault = unexplained_;
  for (const Attempt& cause : found_)
    at_fault.insert(at_fault.end(), cause.scope.begin(), cause.scope.end());
  return remembers_what_is_of(checker_, check, stages_alike(checker_.network(), at_fault));
}

// With what was found.
Patch Explainer::in_all_layers(const std::vector<Attempt>& causes) const {
  std::vector<Attempt> wide;
  for (const auto* list : {&found_, &causes}) {
    for (const Attempt& cause : *list) {
      const auto covers = [&](const Attempt& other) { return same_cause(other, cause) && std::ranges::includes(other.scope, cause.scope); };
      if (std::ranges::any_of(wide, covers)) continue;
      wide.push_back(cause);
      wide.back().scope = stages_alike(checker_.network(), cause.scope);
    }
  }
  return together(checker_.network(), wide);
}

// Marks every failing check that the causes explain, and notes where they apply. Returns how many.
std::size_t Explainer::spread(const std::vector<Attempt>& causes, std::size_t from,
                              std::vector<std::string>& stages) {
  std::size_t count = 0;
  // All of them together; else each by itself: one may sit in fewer layers than the other. At the very stages at which they were found, where a check
  // spans these; else at those that are like them.
  struct Group {
    std::vector<const Attempt*> causes;
    bool own_scope;
  };
  std::vector<Group> groups = {{.causes = {}, .own_scope = true}};
  for (const Attempt& cause : causes)
    groups[0].causes.push_back(&cause);
  groups.push_back({.causes = groups[0].causes, .own_scope = false});
  for (const Attempt& cause : causes) {
    if (causes.size() > 1) groups.push_back({.causes = {&cause}, .own_scope = false});
  }
  for (std::size_t i = from; i < checks_.size(); ++i) {
    const Check& check = checks_[i];
    if (!check.fails || explained_[i]) continue;
    for (const auto& [group, own_scope] : groups) {
      if (own_scope && i != from && std::ranges::any_of(group, [&](const Attempt* cause) { return !std::ranges::includes(check.span, cause->scope); })) continue;
      Patch patch;
      std::vector<Attempt> applied;
      for (const Attempt* cause : group) {
        Attempt here = *cause;
        if (i != from && !own_scope) here.scope = scope_in(check, *cause);
        if (apply(checker_.network(), here, patch)) applied.push_back(std::move(here));
      }
      const bool rounds = std::ranges::any_of(applied, [](const Attempt& cause) { return cause.hypothesis.rounds; });
      bool here = i == from || (!applied.empty() && explains(check, patch, rounds));
      // What earlier passes left, where nobody captured them, was computed under the causes as well.
      if (!here && check.step > 0) {
        applied.clear();
        for (const Attempt* cause : group) {
          Patch alone;
          applied.push_back(*cause);
          applied.back().scope = stages_alike(checker_.network(), cause->scope);
          if (!apply(checker_.network(), applied.back(), alone)) applied.pop_back();
        }
        here = !applied.empty() && explains(check, in_all_layers(applied), rounds);
      }
      if (applied.empty() || !here) continue;
      explained_[i] = true;
      ++count;
      if (std::find(stages.begin(), stages.end(), check.stage) == stages.end())
        stages.push_back(check.stage);
      found_.insert(found_.end(), applied.begin(), applied.end());
      break;
    }
  }
  return count;
}

// What would tell each other cause from the one that is named; the first few.
std::vector<Alternative> Explainer::alternatives(const Check& check, const Outcome& outcome, std::size_t which) const {
  constexpr std::size_t kMost = 3;
  std::vector<Alternative> list;
  Patch named;
  for (const Attempt& cause : outcome.causes)
    apply(checker_.network(), cause, named);
  for (const auto& [place, set] : outcome.others) {
    if (place != which || list.size() == kMost) continue;
    const Attempt& cause = set[place];
    const bool known = std::any_of(list.begin(), list.end(), [&](const Alternative& other) {
      return other.field == cause.hypothesis.field && to_string(other.found) == to_string(found_by(cause));
    });
    if (known) continue;
    Patch other;
    for (const Attempt& each : set)
      apply(checker_.network(), each, other);
    list.push_back({.row = cause.hypothesis.row,
                    .cause = cause.hypothesis.cause,
                    .field = cause.hypothesis.field,
                    .found = found_by(cause),
                    .tokens = 0,
                    .ids = {},
                    .words = {}});
    const Told told = tell_apart(checker_, check, named, other, config_.max_position_embeddings, list.back());
    // A number that was solved for, and that no configuration holds, can always be fitted to a cause of its own row.
    const bool fitted = told == Told::kSame || (told == Told::kNever && !cause.snapped);
    if (fitted && cause.hypothesis.row == outcome.causes[which].hypothesis.row) list.pop_back();
  }
  return list;
}

void Explainer::name(const Check& check, const Outcome& outcome,
                     const std::vector<std::string>& stages, Evidence evidence,
                     Explanation& explanation) const {
  const Residual after = outcome.causes.back().residual;
  evidence.residual_after = after.relative_l2;
  evidence.bit_match_after = after.bit_match;
  for (std::size_t c = 0; c < outcome.causes.size(); ++c) {
    const Attempt& cause = outcome.causes[c];
    const Hypothesis& h = cause.hypothesis;
    Finding finding;
    finding.stage = check.stage;
    finding.row = h.row;
    finding.cause_row = h.row;
    finding.cause = h.cause;
    finding.field = h.field;
    finding.expected = h.expected;
    finding.found = found_by(cause);
    std::vector<std::string> also = outcome.also[c];
    if ((h.field == "attend.window" || h.field == "attend.future") && check.step > 0) {
      finding.row = finding.cause_row = "46";
      finding.cause = "the decode step sees another set of cached keys";
      // Where nothing tells that the first pass was right, the mask may be wrong there too.
      const bool told = std::ranges::any_of(checks_, [&](const Check& other) {
        return other.step == 0 && !other.fails && std::ranges::find(other.span, cause.scope.front()) != other.span.end();
      });
      if (!told) also.push_back(h.row);
    }
    finding.evidence = evidence;
    finding.also = std::move(also);
    finding.alternatives = alternatives(check, outcome, c);
    finding.stages = stages;
    // The same cause again, at a stage to which it did not spread by itself.
    const auto same = std::find_if(
        explanation.findings.begin(), explanation.findings.end(), [&](const Finding& other) {
          return other.row == finding.row && other.field == finding.field &&
                 to_string(other.found) == to_string(finding.found);
        });
    if (same == explanation.findings.end()) {
      explanation.findings.push_back(std::move(finding));
    } else {
      same->stages.insert(same->stages.end(), stages.begin(), stages.end());
    }
  }
}

void Explainer::give_up(std::size_t at, const Evidence& evidence, Explanation& explanation) {
  const Check& check = checks_[at];
  Finding finding;
  finding.stage = check.stage;
  finding.cause =
      "unexplained: " + structure_of(checker_.suspect(check), checker_.computed(check, {}));
  finding.evidence = evidence;
  finding.stages = {check.stage};
  // The same stage in other layers and steps has the same unknown cause.
  const auto kind = stage_at(checker_.network(), check.value.stage).operation.index();
  for (std::size_t j = at; j < checks_.size(); ++j) {
    if (checks_[j].fails &&
        stage_at(checker_.network(), checks_[j].value.stage).operation.index() == kind)
      explained_[j] = true;
  }
  explanation.findings.push_back(std::move(finding));
}

// What was reported of the values, not the values: every report of the same output is looked at.
bool Explainer::explain_report(std::size_t at, Evidence evidence, Explanation& explanation) {
  // The longest of the reports says most of what was done to all of them.
  std::size_t longest = at;
  for (std::size_t j = at; j < checks_.size() && checks_[at].reported == Reported::kLogprobs; ++j) {
    if (checks_[j].fails && checks_[j].stage == checks_[at].stage &&
        checker_.suspect(checks_[j]).tokens() > checker_.suspect(checks_[longest]).tokens())
      longest = j;
  }
  const Check& check = checks_[longest];
  const Patch so_far = together(checker_.network(), found_);
  const auto cause = find_report_cause(checker_, check, so_far);
  if (!cause) return false;
  evidence.residual_after = cause->residual;
  Finding finding;
  finding.stage = check.stage;
  finding.row = finding.cause_row = cause->row;
  finding.cause = cause->cause;
  finding.field = cause->field;
  finding.expected = cause->expected;
  finding.found = cause->found;
  finding.evidence = evidence;
  finding.also = cause->also;
  finding.stages = {check.stage};
  finding.proved = true;  // our network's logits, reported so, are the suspect's report
  if (longest != at && !explains_report(checker_, checks_[at], so_far, *cause)) return false;
  explanation.findings.push_back(std::move(finding));
  for (std::size_t j = at; j < checks_.size(); ++j) {
    if (!checks_[j].fails || explained_[j] || checks_[j].stage != check.stage) continue;
    explained_[j] = j == longest || explains_report(checker_, checks_[j], so_far, *cause);
  }
  return true;
}

Explanation Explainer::run() {
  Explanation explanation;
  for (std::size_t i = 0; i < checks_.size(); ++i) {
    const Check& check = checks_[i];
    if (!check.fails || explained_[i]) continue;
    Evidence evidence{.residual_before = check.residual.relative_l2,
                      .residual_after = check.residual.relative_l2,
                      .budget = check.budget,
                      .bit_match_before = check.residual.bit_match,
                      .bit_match_after = check.residual.bit_match,
                      .rejected = 0,
                      .logits_before = std::nullopt,
                      .logits_after = std::nullopt};
    if (follows_own_logits(checker_, check)) {
      explained_[i] = true;
      continue;
    }
    if (explain_report(i, evidence, explanation)) continue;
    const bool follows = follows_from_found(check);
    const Outcome outcome = follows ? search_beside(check) : search(check);
    evidence.rejected = outcome.rejected;
    // Behind what nobody knows, a cause that takes much believing is an accident.
    const bool unknown = std::ranges::any_of(
        explanation.findings, [](const Finding& finding) { return finding.row.empty(); });
    const bool far_fetched = std::ranges::any_of(
        outcome.causes, [](const Attempt& cause) { return complexity(cause) >= 1; });
    if (outcome.causes.empty() || (unknown && far_fetched)) {
      if (follows) {
        explained_[i] = true;
        continue;
      }
      unexplained_.push_back(check.value.stage);
      give_up(i, evidence, explanation);
      continue;
    }
    std::vector<std::string> stages;
    spread(outcome.causes, i, stages);
    name(check, outcome, stages, evidence, explanation);
  }
  explanation.patch = together(checker_.network(), found_);
  for (const Finding& finding : explanation.findings) {
    std::vector<Attempt> alone = found_;
    std::erase_if(alone, [&](const Attempt& cause) { return finding.row.empty() || cause.hypothesis.field != finding.field; });
    explanation.patches.push_back(together(checker_.network(), alone));
  }
  return explanation;
}

}  // namespace

Explanation explain(Checker& checker, const Config& config, const std::vector<Check>& checks, Progress& progress) {
  Explanation explanation = Explainer(checker, config, checks, progress).run();
  add_weak_faults(checker, config, checks, progress, explanation);
  return explanation;
}

}  // namespace plumb
