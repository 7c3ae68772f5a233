#include "parity/attempts.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>

namespace plumb {

FieldValue found_by(const Attempt& cause) {
  const Hypothesis& h = cause.hypothesis;
  if (!h.range) return h.found;
  return h.range->integer ? FieldValue(static_cast<std::int64_t>(std::llround(cause.value))) : FieldValue(cause.value);
}

bool same_cause(const Attempt& a, const Attempt& b) {
  constexpr double kSolved = 1e-3;
  const bool near = a.hypothesis.range && b.hypothesis.range && std::abs(a.value - b.value) <= kSolved * std::abs(b.value);
  return a.hypothesis.row == b.hypothesis.row && a.hypothesis.field == b.hypothesis.field &&
         (near || to_string(found_by(a)) == to_string(found_by(b)));
}

Patch together(const BoundGraph& network, const std::vector<Attempt>& causes) {
  Patch patch;
  std::map<std::string, std::set<int>> done;
  for (const Attempt& cause : causes) {
    std::set<int>& stages = done[cause.hypothesis.row + " " + cause.hypothesis.field + "=" + to_string(found_by(cause))];
    Attempt rest = cause;
    std::erase_if(rest.scope, [&](int index) { return !stages.insert(index).second; });
    apply(network, rest, patch);
  }
  return patch;
}

bool most_rows_right(Checker& checker, const Check& check, const Patch& patch, const Patch& base) {
  constexpr double kMost = 0.75;
  const auto right = [&](const Patch& under) {
    const Tensor value = checker.computed(check, under);
    const Tensor& held = checker.suspect(check);
    if (value.shape != held.shape || value.tokens() == 0) return 0.0;
    const auto errors = row_errors(held, value);
    return static_cast<double>(std::ranges::count_if(errors, [&](double error) { return error <= check.budget; })) /
           static_cast<double>(errors.size());
  };
  return right(patch) >= kMost && right(base) <= 1 - kMost;
}

std::vector<int> stages_alike(const BoundGraph& network, const std::vector<int>& scope) {
  std::set<std::string> roles;
  for (const int index : scope)
    roles.insert(role_of(stage_at(network, index)));
  std::vector<int> alike;
  for (int i = 0; i < static_cast<int>(network.graph.stages.size()) && !roles.empty(); ++i) {
    if (roles.contains(role_of(stage_at(network, i)))) alike.push_back(i);
  }
  return alike;
}

std::vector<int> stages_concerned(const BoundGraph& network, const Check& check, const Attempt& candidate, const std::vector<Attempt>& found) {
  constexpr std::size_t kShort = 6;
  if (candidate.hypothesis.everywhere) return check.span;
  std::vector<int> same_role;
  std::vector<int> same_kind;
  for (const int index : check.span) {
    const Stage& stage = stage_at(network, index);
    bool role = false;
    bool kind = false;
    for (const int other : candidate.scope) {
      kind = kind || stage_at(network, other).operation.index() == stage.operation.index();
      role = role || role_of(stage_at(network, other)) == role_of(stage);
    }
    if (role) same_role.push_back(index);
    if (kind) same_kind.push_back(index);
  }
  if (!same_role.empty() || check.span.size() > kShort) return same_role;
  if (!same_kind.empty()) return same_kind;
  // Where the cause wires stages otherwise, or yields another number of rows: those of its role in the span's layers whose change
  // reaches the span.
  std::vector<int> reaching;
  for (int i = 0; i < static_cast<int>(network.graph.stages.size()); ++i) {
    const Stage& stage = stage_at(network, i);
    const bool near = std::ranges::any_of(check.span, [&](int index) { return stage_at(network, index).layer == stage.layer; });
    const bool alike = std::ranges::any_of(candidate.scope, [&](int other) { return role_of(stage_at(network, other)) == role_of(stage); }) ||
                       std::ranges::any_of(found, [&](const Attempt& before) {
                         return before.hypothesis.field == candidate.hypothesis.field && std::ranges::find(before.scope, i) != before.scope.end();
                       });
    Patch patch;
    if (!near || !alike || !apply(network, candidate.hypothesis, {i}, candidate.value, patch)) continue;
    const auto touched = touched_stages(network, patch);
    const auto reached = [&](int index) {
      return touched.contains(index) || std::ranges::any_of(stage_at(network, index).inputs, [&](const Value& input) { return touched.contains(input.stage); });
    };
    if (std::ranges::any_of(check.span, reached)) reaching.push_back(i);
  }
  return reaching;
}

bool remembers_what_is_of(const Checker& checker, const Check& check, const std::vector<int>& stages) {
  const BoundGraph& network = checker.network();
  const Patch nothing;
  Recompute recompute(network, checker.captured(), Numerics(Precision::kFp64), checker.pool(), nothing);
  std::set<int> remembering;
  for (const int index : check.span) {
    if (!stage_at(network, index).states.empty()) remembering.insert(index);
  }
  for (std::size_t step = check.step; step > 0 && !remembering.empty(); --step) {
    std::set<int> before;
    for (const int index : remembering) {
      for (const int read : recompute.span_of(step - 1, {index, 0})) {
        if (read != index && std::ranges::find(stages, read) != stages.end()) return true;
        if (!stage_at(network, read).states.empty()) before.insert(read);
      }
    }
    remembering.insert(before.begin(), before.end());
  }
  return false;
}

bool contradicted(Checker& checker, const std::vector<Check>& checks, const std::vector<Attempt>& causes) {
  constexpr int kAsked = 3;
  constexpr double kOff = 10;  // budgets
  Patch patch;
  std::set<int> tried;
  for (const Attempt& cause : causes) {
    apply(checker.network(), cause, patch);
    tried.insert(cause.scope.begin(), cause.scope.end());
  }
  std::set<int> besides = touched_stages(checker.network(), patch);
  std::erase_if(besides, [&](int index) { return tried.contains(index); });
  int asked = 0;
  for (auto check = checks.begin(); check != checks.end() && !besides.empty() && asked < kAsked; ++check) {
    if (check->fails || std::ranges::none_of(check->span, [&](int index) { return besides.contains(index); })) continue;
    ++asked;
    if (checker.under(*check, patch).relative_l2 > kOff * check->budget) return true;
  }
  return false;
}

}  // namespace plumb
