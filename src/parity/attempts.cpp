#include "parity/attempts.h"

#include <algorithm>
#include <cmath>
#include <set>

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

bool looks_ahead(const Attempt& attempt) {
  const std::string& field = attempt.hypothesis.field;
  return field == "attend.future" || field == "attend.sees_nothing" || field == "attend.soft_cap_place";
}

bool most_rows_right(Checker& checker, const Check& check, const Patch& patch) {
  constexpr double kMost = 0.75;
  const auto right = [&](const Patch& under) {
    const Tensor value = checker.computed(check, under);
    const Tensor& held = checker.suspect(check);
    if (value.shape != held.shape || value.tokens() == 0) return 0.0;
    const auto errors = row_errors(held, value);
    return static_cast<double>(std::ranges::count_if(errors, [&](double error) { return error <= check.budget; })) /
           static_cast<double>(errors.size());
  };
  return right(patch) >= kMost && right({}) <= 1 - kMost;
}

std::vector<int> stages_alike(const BoundGraph& network, const std::vector<int>& scope) {
  std::vector<int> alike;
  for (int i = 0; i < static_cast<int>(network.graph.stages.size()); ++i) {
    const std::string role = role_of(stage_at(network, i));
    if (std::ranges::any_of(scope, [&](int index) { return role_of(stage_at(network, index)) == role; })) alike.push_back(i);
  }
  return alike;
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
