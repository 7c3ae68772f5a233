// Measured at faults planted in transformers (an epsilon, the place of a cast): all of 22 to 4435 elements are on the right value's side, and
// of other values' at most half. Right runs equal their profile but for sums in another order, which is no side of any hypothesis.
#include "parity/weak_faults.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "parity/residual.h"
#include "parity/search.h"

namespace plumb {
namespace {

constexpr std::int64_t kLeastElements = 24;  // that the hypothesis says otherwise
constexpr double kSide = 0.9;                // of them as the hypothesis says
constexpr double kMismatches = 0.5;          // of those without it, at most
constexpr double kLost = 0.5;                // a hypothesis with fewer on its side is not asked at more stages

// What a mask leaves of a score is as good as any other such number.
bool same_bits(double a, double b) {
  return a == b || (a <= kMaskedScore && b <= kMaskedScore);
}

struct Sides {
  std::int64_t elements = 0;   // in which the hypothesis says other bits; numbers that are decided together count as one
  std::int64_t its_side = 0;   // of those, the suspect's are the hypothesis's
  std::int64_t mismatches = 0;  // elements that are not the hypothesis's, of all

  bool named(std::int64_t mismatches_before) const {
    return elements >= kLeastElements && static_cast<double>(its_side) >= kSide * static_cast<double>(elements) &&
           static_cast<double>(mismatches) <= kMismatches * static_cast<double>(mismatches_before);
  }
  bool lost() const {
    return elements >= kLeastElements && static_cast<double>(its_side) < kLost * static_cast<double>(elements);
  }
};

// One stage of several layers and passes, within its budget in all.
struct Role {
  std::vector<const Check*> checks;
  std::vector<Tensor> rounded;  // in the profile
  std::int64_t mismatches = 0;
  std::int64_t elements = 0;
};

// Sums in another order fall to other sides by themselves.
bool element_by_element(const Operation& operation) {
  return std::holds_alternative<Norm>(operation) || std::holds_alternative<GatedNorm>(operation) ||
         std::holds_alternative<L2Norm>(operation) || std::holds_alternative<Rope>(operation) || std::holds_alternative<Embed>(operation) ||
         std::holds_alternative<Gated>(operation) || std::holds_alternative<Activate>(operation) || std::holds_alternative<Attend>(operation);
}

std::map<std::string, Role> roles_of(Checker& checker, const std::vector<Check>& checks) {
  std::map<std::string, Role> roles;
  for (const Check& check : checks) {
    const Stage& stage = stage_at(checker.network(), check.value.stage);
    if (check.fails || check.exact || check.reported != Reported::kValues || !alone(checker.network(), check.span) ||
        !element_by_element(stage.operation))
      continue;
    Tensor rounded = checker.rounded(check, {});
    const Tensor& suspect = checker.suspect(check);
    if (rounded.shape != suspect.shape) continue;
    Role& role = roles[name_in_layer(check.stage, stage.layer)];
    for (std::size_t i = 0; i < rounded.data.size(); ++i)
      role.mismatches += same_bits(rounded.data[i], suspect.data[i]) ? 0 : 1;
    role.elements += static_cast<std::int64_t>(rounded.data.size());
    role.checks.push_back(&check);
    role.rounded.push_back(std::move(rounded));
  }
  return roles;
}

// The numbers that fall to a side together: of attention's context, those of a token and head, which one probability may move.
std::size_t decided_together(const Stage& stage, const Check& check, const Tensor& value) {
  const bool context = std::holds_alternative<Attend>(stage.operation) && check.value.output == 2;
  return context ? static_cast<std::size_t>(std::max<std::int64_t>(value.shape.back(), 1)) : 1;
}

Sides sides_of(Checker& checker, const Role& role, const Hypothesis& hypothesis, double value) {
  Sides sides;
  for (std::size_t c = 0; c < role.checks.size(); ++c) {
    const Check& check = *role.checks[c];
    const Tensor& suspect = checker.suspect(check);
    Patch patch;
    const bool applies = hypothesis.apply(checker.network(), check.value.stage, value, patch);
    const Tensor other = applies ? checker.rounded(check, patch) : role.rounded[c];
    if (other.shape != suspect.shape) return {};
    const std::size_t together = decided_together(stage_at(checker.network(), check.value.stage), check, other);
    for (std::size_t first = 0; first < other.data.size(); first += together) {
      std::size_t otherwise = 0;
      std::size_t its_side = 0;
      for (std::size_t i = first; i < first + together; ++i) {
        const bool says_otherwise = !same_bits(other.data[i], role.rounded[c].data[i]);
        const bool matches = same_bits(other.data[i], suspect.data[i]);
        otherwise += says_otherwise ? 1 : 0;
        its_side += says_otherwise && matches ? 1 : 0;
        sides.mismatches += matches ? 0 : 1;
      }
      if (otherwise == 0) continue;
      ++sides.elements;
      sides.its_side += static_cast<double>(its_side) >= kSide * static_cast<double>(otherwise) ? 1 : 0;
    }
    if (sides.lost()) return sides;
  }
  return sides;
}

struct Weak {
  Hypothesis hypothesis;
  double value;
  Sides sides;
};

std::vector<double> values_of(const Hypothesis& hypothesis) {
  if (!hypothesis.range) return {0};
  std::vector<double> values;
  for (const double snap : hypothesis.range->snaps) {
    if (snap >= hypothesis.range->low && snap <= hypothesis.range->high && to_string(FieldValue(snap)) != to_string(hypothesis.expected))
      values.push_back(snap);
  }
  return values;
}

// Where an engine casts is its own matter, unless it says that it is the one whose profile it is held to.
bool concerns(const Checker& checker, const Hypothesis& hypothesis) {
  return (hypothesis.rarity == 0 || hypothesis.rounds) && (hypothesis.field != "norm.rounding" || checker.arithmetic().named);
}

Finding finding_of(const Role& role, const Weak& weak, Checker& checker, Patch& patch) {
  const Check& first = *role.checks.front();
  const Hypothesis& h = weak.hypothesis;
  Finding finding;
  finding.stage = first.stage;
  finding.row = finding.cause_row = h.row;
  finding.cause = h.cause;
  finding.field = h.field;
  finding.expected = h.expected;
  finding.found = h.range ? FieldValue(weak.value) : h.found;
  for (const Check* check : role.checks) {
    h.apply(checker.network(), check->value.stage, weak.value, patch);
    if (std::ranges::find(finding.stages, check->stage) == finding.stages.end()) finding.stages.push_back(check->stage);
  }
  const auto share = [&](std::int64_t mismatches) { return 1 - static_cast<double>(mismatches) / static_cast<double>(role.elements); };
  finding.evidence.residual_before = first.residual.relative_l2;
  finding.evidence.residual_after = checker.under(first, patch).relative_l2;
  finding.evidence.budget = first.budget;
  finding.evidence.bit_match_before = share(role.mismatches);
  finding.evidence.bit_match_after = share(weak.sides.mismatches);
  return finding;
}

bool same_cause(const Finding& a, const Finding& b) {
  constexpr double kSolved = 0.02;
  const auto* x = std::get_if<double>(&a.found);
  const auto* y = std::get_if<double>(&b.found);
  const bool near = x != nullptr && y != nullptr && std::abs(*x - *y) <= kSolved * std::abs(*y);
  return a.row == b.row && a.field == b.field && (near || to_string(a.found) == to_string(b.found));
}

void join(Patch& into, const Patch& patch) {
  into.stages.insert(patch.stages.begin(), patch.stages.end());
  into.weights.insert(patch.weights.begin(), patch.weights.end());
  into.computations.insert(patch.computations.begin(), patch.computations.end());
}

}  // namespace

void add_weak_faults(Checker& checker, const Config& config, const std::vector<Check>& checks, Progress& progress,
                     Explanation& explanation) {
  if (checker.type() == SuspectType::kFloat32 || checker.arithmetic().narrowed) return;
  const auto roles = roles_of(checker, checks);
  std::vector<const std::pair<const std::string, Role>*> in_order;
  for (const auto& entry : roles)
    in_order.push_back(&entry);
  std::ranges::sort(in_order, {}, [](const auto* entry) { return entry->second.checks.front(); });
  for (const auto* entry : in_order) {
    const auto& [name, role] = *entry;
    if (static_cast<double>(role.mismatches) < kSide * kLeastElements) continue;
    std::vector<Weak> found;
    std::int64_t rejected = 0;
    for (const Hypothesis& hypothesis : hypotheses_about(checker.network(), config, role.checks.front()->value.stage)) {
      if (!concerns(checker, hypothesis)) continue;
      for (const double value : values_of(hypothesis)) {
        progress.tell([&name = name] { return fmt::format("{}: which way it rounds", name); });
        const Sides sides = sides_of(checker, role, hypothesis, value);
        if (sides.named(role.mismatches)) {
          found.push_back({hypothesis, value, sides});
        } else {
          ++rejected;
        }
      }
    }
    if (found.empty()) continue;
    const auto& best = *std::ranges::min_element(found, {}, [](const Weak& weak) { return weak.sides.mismatches; });
    Patch patch;
    Finding finding = finding_of(role, best, checker, patch);
    finding.evidence.rejected = rejected;
    constexpr double kAsWell = 1.1;
    for (const Weak& other : found) {
      const bool as_well = static_cast<double>(other.sides.mismatches) <= kAsWell * static_cast<double>(best.sides.mismatches);
      if (as_well && other.hypothesis.row != finding.row && std::ranges::find(finding.also, other.hypothesis.row) == finding.also.end())
        finding.also.push_back(other.hypothesis.row);
    }
    join(explanation.patch, patch);
    const auto same = std::ranges::find_if(explanation.findings, [&](const Finding& other) { return same_cause(other, finding); });
    if (same != explanation.findings.end()) {
      join(explanation.patches[static_cast<std::size_t>(same - explanation.findings.begin())], patch);
      same->found = finding.found;  // solved for at a stage beyond its budget: bits say which of the numbers near it
      same->stages.insert(same->stages.end(), finding.stages.begin(), finding.stages.end());
      continue;
    }
    explanation.findings.push_back(std::move(finding));
    explanation.patches.push_back(std::move(patch));
  }
}

}  // namespace plumb
