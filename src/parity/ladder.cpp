// The ladder of prefixes.
#include "parity/ladder.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "parity/attempts.h"
#include "parity/captured_views.h"

namespace plumb {
namespace {

constexpr std::size_t kBeam = 12;       // sets of causes that are followed
constexpr std::size_t kMostCauses = 3;  // in a set
constexpr std::size_t kPairBases = 2;   // sets that are given two more causes at once
constexpr double kGain = 3;             // a cause brings the residual down by this factor

struct Set {
  std::vector<Attempt> causes;
  Residual residual;
};

double score(const Set& set) {
  double sum = 0;
  for (const Attempt& cause : set.causes)
    sum += 1 + complexity(cause);
  return set.residual.relative_l2 * (1 + 0.4 * sum);
}

bool patch_of(const BoundGraph& network, const Set& set, Patch& patch) {
  return std::all_of(set.causes.begin(), set.causes.end(),
                     [&](const Attempt& cause) { return apply(network, cause, patch); });
}

std::vector<std::int64_t> prefixes(std::int64_t tokens) {
  std::vector<std::int64_t> list;
  for (std::int64_t n = 1; n < tokens; n = n < 3 ? n + 1 : n + (n + 1) / 2)
    list.push_back(n);
  list.push_back(tokens);
  return list;
}

// One rung: the check on some of its tokens.
class Rung {
 public:
  Rung(const Checker& whole, const Search& search, const Check& check, std::int64_t tokens)
      : first_(std::make_unique<FirstTokens>(whole.captured(), tokens)),
        own_(std::make_unique<Checker>(whole.network(), *first_, whole.arithmetic(), whole.pool())),
        checker_(*own_),
        search_(search),
        check_(checker_.check(0, check.value, check.reported)) {
    constexpr std::int64_t kTimes = 4;
    for (const std::int64_t fewer : {1, 4, 16}) {
      if (fewer * kTimes <= tokens * 2) screens_.push_back(std::make_unique<Rung>(whole, search, check, fewer, kBare));
    }
  }
  // All tokens.
  Rung(Checker& whole, const Search& search, const Check& check) : checker_(whole), search_(search), check_(check) {}
  // One without screens.
  enum Bare { kBare };
  Rung(const Checker& whole, const Search& search, const Check& check, std::int64_t tokens, Bare)
      : first_(std::make_unique<FirstTokens>(whole.captured(), tokens)),
        own_(std::make_unique<Checker>(whole.network(), *first_, whole.arithmetic(), whole.pool())),
        checker_(*own_),
        search_(search),
        check_(checker_.check(0, check.value, check.reported)) {}

  bool usable() const { return check_.has_value(); }

  // Whether the set still explains; numbers in it are solved for again where it does not.
  bool holds(Set& set) {
    Patch patch;
    if (!patch_of(search_.network(), set, patch)) return false;
    set.residual = checker_.under(*check_, patch);
    const bool rounds = std::ranges::any_of(set.causes, [](const Attempt& cause) { return cause.hypothesis.rounds; });
    const auto rounded = [&] {
      return set.residual.relative_l2 <= kOtherSides * check_->residual.relative_l2 || most_rows_right(checker_, *check_, patch);
    };
    return within(set.residual, patch) || (rounds && rounded()) || refine(set);
  }

  // The set with one more cause, or with two.
  std::vector<Set> extend(const Set& set, bool two, Search::Effort effort) {
    std::vector<Set> found;
    Patch base;
    if (!patch_of(search_.network(), set, base)) return found;
    if (measured_for_ != &set || effort_ != effort) {
      effort_ = effort;
      measured_ = search_.candidates(*check_);
      std::erase_if(measured_, [&](const Attempt& candidate) {
        return std::any_of(set.causes.begin(), set.causes.end(), [&](const Attempt& cause) {
          return cause.hypothesis.field == candidate.hypothesis.field &&
                 cause.scope == candidate.scope;
        });
      });
      const auto trial = trial_under(base);
      before_ = trial->before().relative_l2;
      search_.measure_all(*trial, check_->budget, measured_, effort);
      measured_for_ = &set;
    }
    if (two) {
      for (auto& pair : search_.pairs(checker_, *check_, base, check_->budget, measured_)) {
        Set more = set;
        more.residual = pair.back().residual;
        more.causes.insert(more.causes.end(), pair.begin(), pair.end());
        found.push_back(std::move(more));
      }
      return found;
    }
    for (const Attempt& candidate : measured_) {
      if (!(candidate.residual.relative_l2 * kGain < before_)) continue;
      Patch patch = base;
      const bool rounded = candidate.hypothesis.rounds && candidate.residual.relative_l2 <= kOtherSides * before_;
      if (!apply(search_.network(), candidate, patch) || !(rounded || within(candidate.residual, patch)))
        continue;
      Set more = set;
      more.residual = candidate.residual;
      more.causes.push_back(candidate);
      found.push_back(std::move(more));
    }
    return found;
  }

 private:
  // Fewer tokens that are right under the base must stay so.
  std::unique_ptr<Trial> trial_under(const Patch& base) {
    auto trial = std::make_unique<Trial>(checker_, *check_, base);
    for (const auto& screen : screens_) {
      if (!screen->usable()) continue;
      auto fewer = std::make_unique<const Trial>(screen->checker_, *screen->check_, base);
      if (fewer->before().relative_l2 <= fewer->check().budget) trial->screen_by(std::move(fewer));
    }
    return trial;
  }

  bool within(const Residual& r, const Patch& patch) {
    if (plumb::within(r, check_->budget)) return true;
    // What a cause does to the values, it does to their rounding.
    return plumb::within(r, 10 * check_->budget) && plumb::within(r, checker_.budget_under(*check_, patch));
  }

  bool refine(Set& set) {
    for (std::size_t i = 0; i < set.causes.size(); ++i) {
      const auto& range = set.causes[i].hypothesis.range;
      if (!range || range->integer || set.causes[i].snapped) continue;
      Patch base;
      Set others = set;
      others.causes.erase(others.causes.begin() + static_cast<std::ptrdiff_t>(i));
      if (!patch_of(search_.network(), others, base)) continue;
      const Trial trial(checker_, *check_, base);
      Attempt again{.hypothesis = set.causes[i].hypothesis, .scope = set.causes[i].scope};
      again.narrow = set.causes[i].narrow;
      search_.measure(trial, check_->budget, again);
      Patch patch = base;
      if (!apply(search_.network(), again, patch) || !within(again.residual, patch)) continue;
      set.residual = again.residual;
      set.causes[i] = again;
      return true;
    }
    return false;
  }

  std::unique_ptr<FirstTokens> first_;
  std::unique_ptr<Checker> own_;
  Checker& checker_;
  const Search& search_;
  std::optional<Check> check_;
  std::vector<std::unique_ptr<Rung>> screens_;
  std::vector<Attempt> measured_;
  const Set* measured_for_ = nullptr;
  Search::Effort effort_ = Search::Effort::kSnaps;
  double before_ = 0;
};

void keep_best(std::vector<Set>& sets) {
  std::stable_sort(sets.begin(), sets.end(),
                   [](const Set& a, const Set& b) { return score(a) < score(b); });
  if (sets.size() > kBeam) sets.resize(kBeam);
}

// The sets that explain one rung, from those that explained the one below.
std::vector<Set> next_sets(Rung& rung, std::vector<Set> sets, Climb how) {
  std::vector<Set> kept;
  for (Set& set : sets) {
    if (rung.holds(set)) kept.push_back(set);
  }
  if (!kept.empty()) return kept;
  // Of a set that does not hold, a cause may have been a stand-in for another, or for two.
  if (!sets.empty() && !sets.front().causes.empty()) sets.push_back(Set{});
  constexpr auto kSnaps = Search::Effort::kSnaps;
  constexpr auto kSolve = Search::Effort::kSolve;
  for (const auto& [two, effort] :
       {std::pair(false, kSnaps), std::pair(false, kSolve), std::pair(true, kSolve)}) {
    if (how == Climb::kSnaps && effort != kSnaps) break;
    std::size_t bases = 0;
    for (const Set& set : sets) {
      if (set.causes.size() + (two ? 2 : 1) > kMostCauses) continue;
      if (two && ++bases > kPairBases && !set.causes.empty()) continue;
      auto more = rung.extend(set, two, effort);
      kept.insert(kept.end(), more.begin(), more.end());
    }
    if (!kept.empty()) return kept;
  }
  return kept;
}

}  // namespace

bool can_climb(const Checker& checker, const Check& check) {
  const TraceStep& step = checker.captured().steps()[check.step];
  const Output& output = checker.network().graph.output(check.value);
  const bool fixed = std::none_of(output.shape.begin(), output.shape.end(),
                                  [](std::int64_t axis) { return axis == kAnyLength; });
  if (check.step != 0 || step.count < 2 || !output.per_token || !fixed) return false;
  const FirstTokens first(checker.captured(), 1);
  return first.value(0, check.reported == Reported::kLogprobs ? "logprobs" : check.stage) !=
         nullptr;
}

namespace {

// Tokens before the first that is wrong by itself.
std::int64_t right_tokens(Checker& checker, const Check& check) {
  const auto errors = checker.row_errors(check);
  const auto wrong = std::ranges::find_if(errors, [&](double error) { return !(error <= check.budget); });
  return wrong - errors.begin();
}

// Those of a few sets that explain the whole check.
std::vector<Set> that_hold(Rung& whole, const std::vector<Set>& sets) {
  constexpr std::size_t kFew = 3;
  std::vector<Set> kept;
  if (sets.size() > kFew || sets.front().causes.empty()) return kept;
  for (Set set : sets) {
    if (whole.holds(set)) kept.push_back(std::move(set));
  }
  return kept;
}

}  // namespace

std::vector<std::vector<Attempt>> climb(Checker& checker, const Search& search,
                                        const Check& check, Climb how) {
  std::vector<Set> sets{Set{}};
  const std::int64_t all = checker.captured().steps()[0].count;
  const std::int64_t right = right_tokens(checker, check);
  Rung whole(checker, search, check);
  bool leapt = false;
  for (const std::int64_t tokens : prefixes(all)) {
    if (tokens <= right) continue;
    if (tokens == all) {
      sets = next_sets(whole, std::move(sets), how);
    } else {
      Rung rung(checker, search, check, tokens);
      if (!rung.usable()) return {};
      sets = next_sets(rung, std::move(sets), how);
    }
    if (sets.empty()) return {};
    keep_best(sets);
    if (tokens == all || leapt) continue;
    if (auto kept = that_hold(whole, sets); !kept.empty()) {
      sets = std::move(kept);
      break;
    }
    leapt = sets.size() == 1 && !sets.front().causes.empty();
  }
  std::vector<std::vector<Attempt>> result;
  for (Set& set : sets) {
    if (set.causes.empty()) continue;
    set.causes.back().residual = set.residual;
    result.push_back(std::move(set.causes));
  }
  return result;
}

}  // namespace plumb
