// The search. A check's span is one stage where everything around it was captured, the whole network where only logits were;
// a hypothesis is then applied to all stages of the same role, or of the same operation, in the span.
#include "parity/explain.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

namespace plumb {
namespace {

constexpr std::size_t kPairLeads = 8;  // single hypotheses that are combined when none suffices
constexpr int kGridPoints = 25;
constexpr int kRefinements = 40;
constexpr double kGain = 3;  // a cause must bring the residual down by this factor

struct Candidate {
  Hypothesis hypothesis;
  std::vector<int> scope;
  double value = 0;  // of a range
  Residual residual{.relative_l2 = std::numeric_limits<double>::infinity(),
                    .worst_row = 0,
                    .worst_token = 0,
                    .largest = 0,
                    .cosine = 0,
                    .bit_match = 0};
};

// Applies a hypothesis to each stage of the scope that it concerns; false when to none.
bool apply(const BoundGraph& network, const Hypothesis& hypothesis, const std::vector<int>& scope,
           double value, Patch& patch) {
  bool any = false;
  for (const int index : scope) {
    Patch attempt = patch;
    if (!hypothesis.apply(network, index, value, attempt)) continue;
    patch = std::move(attempt);
    any = true;
  }
  return any;
}

class Search {
 public:
  Search(Checker& checker, const Config& config) : checker_(checker), config_(config) {}

  std::vector<Candidate> candidates(const Check& check) const;
  void measure(const Check& check, Candidate& candidate, const Patch& base);
  bool reaches(const Check& check, const Residual& r) const {
    return r.relative_l2 <= check.budget && r.worst_row <= 6 * check.budget &&
           r.relative_l2 * kGain < check.residual.relative_l2;
  }

 private:
  double at(const Check& check, Candidate& candidate, double value, const Patch& base);
  void solve(const Check& check, Candidate& candidate, const Patch& base);

  Checker& checker_;
  const Config& config_;
};

std::vector<Candidate> Search::candidates(const Check& check) const {
  const BoundGraph& network = checker_.network();
  std::vector<Candidate> list;
  std::set<std::string> seen;
  const auto add = [&](const Hypothesis& hypothesis, std::vector<int> scope) {
    std::string key =
        hypothesis.field + "=" + to_string(hypothesis.found) + (hypothesis.range ? "?" : "");
    for (const int index : scope)
      key += "," + std::to_string(index);
    if (seen.insert(key).second)
      list.push_back({.hypothesis = hypothesis, .scope = std::move(scope)});
  };
  for (const int index : check.span) {
    const Stage& stage = network.graph.stages[static_cast<std::size_t>(index)];
    const auto hypotheses = hypotheses_about(network, config_, index);
    std::vector<int> role;
    std::vector<int> kind;
    for (const int other : check.span) {
      const Stage& candidate = network.graph.stages[static_cast<std::size_t>(other)];
      if (candidate.operation.index() != stage.operation.index()) continue;
      kind.push_back(other);
      if (name_in_layer(candidate.name, candidate.layer) == name_in_layer(stage.name, stage.layer))
        role.push_back(other);
    }
    for (const Hypothesis& hypothesis : hypotheses) {
      add(hypothesis, role);
      if (kind.size() > role.size()) add(hypothesis, kind);
    }
    constexpr std::size_t kSmall = 400;
    if (role.size() > 1 && check.span.size() <= kSmall) {
      for (const Hypothesis& hypothesis : hypotheses) {
        if (!hypothesis.range) add(hypothesis, {index});
      }
    }
  }
  return list;
}

double Search::at(const Check& check, Candidate& candidate, double value, const Patch& base) {
  Patch patch = base;
  if (!apply(checker_.network(), candidate.hypothesis, candidate.scope, value, patch))
    return std::numeric_limits<double>::infinity();
  const Residual r = checker_.under(check, patch);
  if (!(r.relative_l2 < candidate.residual.relative_l2)) return r.relative_l2;
  candidate.residual = r;
  candidate.value = value;
  return r.relative_l2;
}

// Snaps first, then a grid and a golden-section search around its best point.
void Search::solve(const Check& check, Candidate& candidate, const Patch& base) {
  const Range& range = *candidate.hypothesis.range;
  for (const double snap : range.snaps) {
    if (snap >= range.low && snap <= range.high) at(check, candidate, snap, base);
    if (reaches(check, candidate.residual)) return;
  }
  if (range.integer) {
    const double span = range.high - range.low;
    if (span > 64) return;
    for (double value = range.low; value <= range.high; ++value)
      at(check, candidate, value, base);
    return;
  }
  const bool wide = check.span.size() > 8;
  if (wide && candidate.residual.relative_l2 > 0.9 * check.residual.relative_l2)
    return;  // no sign of a minimum
  const auto place = [&](double x) {
    return range.logarithmic ? range.low * std::pow(range.high / range.low, x)
                             : range.low + x * (range.high - range.low);
  };
  int best = 0;
  double least = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kGridPoints; ++i) {
    const double r = at(check, candidate, place(static_cast<double>(i) / (kGridPoints - 1)), base);
    if (r < least) {
      least = r;
      best = i;
    }
  }
  constexpr double kGolden = 0.6180339887498949;
  double low = static_cast<double>(best - 1) / (kGridPoints - 1);
  double high = static_cast<double>(best + 1) / (kGridPoints - 1);
  double a = high - kGolden * (high - low);
  double b = low + kGolden * (high - low);
  double ra = at(check, candidate, place(a), base);
  double rb = at(check, candidate, place(b), base);
  for (int i = 0; i < kRefinements; ++i) {
    if (ra < rb) {
      high = b;
      b = a;
      rb = ra;
      a = high - kGolden * (high - low);
      ra = at(check, candidate, place(a), base);
    } else {
      low = a;
      a = b;
      ra = rb;
      b = low + kGolden * (high - low);
      rb = at(check, candidate, place(b), base);
    }
  }
}

void Search::measure(const Check& check, Candidate& candidate, const Patch& base) {
  if (candidate.hypothesis.range) {
    solve(check, candidate, base);
  } else {
    at(check, candidate, 0, base);
  }
}

// Where an error sits, for a cause that nobody knows.
std::string structure_of(const Tensor& y, const Tensor& f) {
  std::string text;
  std::int64_t first = -1;
  double row_spread = 0;
  for (std::int64_t t = 0; t < y.tokens(); ++t) {
    double dot = 0;
    double norm = 0;
    double error = 0;
    for (std::size_t i = 0; i < y.row(t).size(); ++i) {
      dot += y.row(t)[i] * f.row(t)[i];
      norm += f.row(t)[i] * f.row(t)[i];
      error += (y.row(t)[i] - f.row(t)[i]) * (y.row(t)[i] - f.row(t)[i]);
    }
    if (first < 0 && error > 1e-10 * norm) first = t;
    if (norm <= 0 || error <= 0) continue;
    const double scaled =
        error - (dot - norm) * (dot - norm) / norm;  // what a factor per row leaves
    row_spread = std::max(row_spread, scaled / error);
  }
  std::size_t channels = 0;
  const auto width = static_cast<std::size_t>(y.width());
  for (std::size_t i = 0; i < width; ++i) {
    bool touched = false;
    for (std::int64_t t = 0; t < y.tokens(); ++t) {
      const double scale = std::abs(f.row(t)[i]);
      touched = touched || std::abs(y.row(t)[i] - f.row(t)[i]) > 1e-4 * scale + 1e-9;
    }
    channels += touched ? 1 : 0;
  }
  text = std::to_string(channels) + " of " + std::to_string(width) +
         " channels differ, from token " + std::to_string(std::max<std::int64_t>(first, 0)) +
         " of the step on";
  if (row_spread < 1e-3) text += "; each row is off by one factor";
  return text;
}

class Explainer {
 public:
  Explainer(Checker& checker, const Config& config, const std::vector<Check>& checks)
      : checker_(checker),
        search_(checker, config),
        checks_(checks),
        explained_(checks.size(), false) {}

  Explanation run();

 private:
  struct Outcome {
    std::vector<Candidate> causes;  // one, or two together
    std::vector<std::string> also;
    std::int64_t rejected = 0;
  };
  Outcome search(const Check& check);
  std::size_t spread(const std::vector<Candidate>& causes, std::size_t from,
                     std::vector<std::string>& stages);
  double total(const Candidate& candidate, std::size_t from);
  std::vector<int> scope_in(const Check& check, const Candidate& candidate) const;

  Checker& checker_;
  Search search_;
  const std::vector<Check>& checks_;
  std::vector<bool> explained_;
  Patch patch_;
};

// The stages of another check's span that the cause concerns: those of the same operation.
std::vector<int> Explainer::scope_in(const Check& check, const Candidate& candidate) const {
  const auto& stages = checker_.network().graph.stages;
  const auto kind = stages[static_cast<std::size_t>(candidate.scope.front())].operation.index();
  std::vector<int> scope;
  for (const int index : check.span) {
    if (stages[static_cast<std::size_t>(index)].operation.index() == kind) scope.push_back(index);
  }
  return scope;
}

Explainer::Outcome Explainer::search(const Check& check) {
  auto list = search_.candidates(check);
  for (Candidate& candidate : list)
    search_.measure(check, candidate, {});
  std::stable_sort(list.begin(), list.end(), [](const Candidate& a, const Candidate& b) {
    return a.residual.relative_l2 < b.residual.relative_l2;
  });
  Outcome outcome;
  std::vector<Candidate> reaching;
  for (const Candidate& candidate : list) {
    if (search_.reaches(check, candidate.residual)) reaching.push_back(candidate);
  }
  outcome.rejected = static_cast<std::int64_t>(list.size() - reaching.size());
  if (!reaching.empty()) {
    const auto from = static_cast<std::size_t>(&check - checks_.data());
    std::size_t best = 0;
    double least = std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < std::min<std::size_t>(reaching.size(), 6); ++i) {
      const double sum = total(reaching[i], from);
      if (sum < 0.7 * least) {
        least = sum;
        best = i;
      }
    }
    for (std::size_t i = 0; i < reaching.size(); ++i) {
      const std::string& row = reaching[i].hypothesis.row;
      if (i == best || row == reaching[best].hypothesis.row) continue;
      if (total(reaching[i], from) > 2 * least) continue;
      if (std::find(outcome.also.begin(), outcome.also.end(), row) == outcome.also.end())
        outcome.also.push_back(row);
    }
    outcome.causes = {reaching[best]};
    return outcome;
  }
  for (std::size_t i = 0; i < std::min(kPairLeads, list.size()); ++i) {
    Patch base;
    if (!apply(checker_.network(), list[i].hypothesis, list[i].scope, list[i].value, base))
      continue;
    for (const Candidate& other : list) {
      if (other.hypothesis.field == list[i].hypothesis.field && other.scope == list[i].scope)
        continue;
      Candidate second{.hypothesis = other.hypothesis, .scope = other.scope};
      search_.measure(check, second, base);
      if (!search_.reaches(check, second.residual)) continue;
      outcome.causes = {list[i], second};
      return outcome;
    }
  }
  return outcome;
}

// The residuals of the failing checks of the same role under the candidate, over their budgets; a few of them suffice.
double Explainer::total(const Candidate& candidate, std::size_t from) {
  double sum = candidate.residual.relative_l2 / checks_[from].budget;
  int used = 0;
  for (std::size_t i = from + 1; i < checks_.size() && used < 4; ++i) {
    const Check& check = checks_[i];
    if (!check.fails || explained_[i]) continue;
    Patch patch;
    if (!apply(checker_.network(), candidate.hypothesis, scope_in(check, candidate),
               candidate.value, patch))
      continue;
    ++used;
    sum += std::min(checker_.under(check, patch).relative_l2, check.residual.relative_l2) /
           check.budget;
  }
  return sum;
}

// Marks every failing check that the causes explain, and notes where they apply. Returns how many.
std::size_t Explainer::spread(const std::vector<Candidate>& causes, std::size_t from,
                              std::vector<std::string>& stages) {
  std::size_t count = 0;
  for (std::size_t i = from; i < checks_.size(); ++i) {
    const Check& check = checks_[i];
    if (!check.fails || explained_[i]) continue;
    Patch patch;
    bool any = false;
    for (const Candidate& cause : causes) {
      any = apply(checker_.network(), cause.hypothesis,
                  i == from ? cause.scope : scope_in(check, cause), cause.value, patch) ||
            any;
    }
    if (!any) continue;
    const Residual r = checker_.under(check, patch);
    // The budget was measured without the cause; where the cause is right, what it leaves is of the budget's size.
    const bool within = r.relative_l2 <= check.budget && r.worst_row <= 6 * check.budget;
    const bool nearly =
        r.relative_l2 <= 4 * check.budget && r.relative_l2 * 10 < check.residual.relative_l2;
    if (i != from && !within && !nearly) continue;
    explained_[i] = true;
    ++count;
    if (std::find(stages.begin(), stages.end(), check.stage) == stages.end())
      stages.push_back(check.stage);
    for (auto& [index, stage] : patch.stages)
      patch_.stages.insert_or_assign(index, stage);
    for (auto& [index, weight] : patch.weights)
      patch_.weights.insert_or_assign(index, weight);
  }
  return count;
}

Explanation Explainer::run() {
  Explanation explanation;
  for (std::size_t i = 0; i < checks_.size(); ++i) {
    const Check& check = checks_[i];
    if (!check.fails || explained_[i]) continue;
    const Outcome outcome = search(check);
    Evidence evidence{.residual_before = check.residual.relative_l2,
                      .residual_after = check.residual.relative_l2,
                      .budget = check.budget,
                      .bit_match_before = check.residual.bit_match,
                      .bit_match_after = check.residual.bit_match,
                      .rejected = outcome.rejected,
                      .logits_before = std::nullopt,
                      .logits_after = std::nullopt};
    if (outcome.causes.empty()) {
      Finding finding;
      finding.stage = check.stage;
      finding.cause =
          "unexplained: " + structure_of(checker_.suspect(check), checker_.computed(check, {}));
      finding.evidence = evidence;
      finding.stages = {check.stage};
      // The same stage in other layers and steps has the same unknown cause.
      const Stage& stage =
          checker_.network().graph.stages[static_cast<std::size_t>(check.value.stage)];
      for (std::size_t j = i; j < checks_.size(); ++j) {
        const Stage& other =
            checker_.network().graph.stages[static_cast<std::size_t>(checks_[j].value.stage)];
        const bool alike = other.operation.index() == stage.operation.index();
        if (checks_[j].fails && alike) explained_[j] = true;
      }
      explanation.findings.push_back(std::move(finding));
      continue;
    }
    std::vector<std::string> stages;
    spread(outcome.causes, i, stages);
    const Residual after = outcome.causes.back().residual;
    evidence.residual_after = after.relative_l2;
    evidence.bit_match_after = after.bit_match;
    for (const Candidate& cause : outcome.causes) {
      const Hypothesis& h = cause.hypothesis;
      Finding finding;
      finding.stage = check.stage;
      finding.row = h.row;
      finding.cause = h.cause;
      finding.field = h.field;
      finding.expected = h.expected;
      finding.found = h.range ? FieldValue(cause.value) : h.found;
      if (h.range && h.range->integer)
        finding.found = static_cast<std::int64_t>(std::llround(cause.value));
      if (h.field == "attend.window" && check.step > 0) {
        finding.row = "46";
        finding.cause = "the decode step sees another set of cached keys";
      }
      finding.evidence = evidence;
      finding.also = outcome.also;
      finding.stages = stages;
      explanation.findings.push_back(std::move(finding));
    }
  }
  explanation.patch = patch_;
  return explanation;
}

}  // namespace

Explanation explain(Checker& checker, const Config& config, const std::vector<Check>& checks) {
  return Explainer(checker, config, checks).run();
}

}  // namespace plumb
