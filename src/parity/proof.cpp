// Relative L2 of logits over all steps, before and under the causes.
#include "parity/proof.h"

#include <algorithm>
#include <cmath>

#include "parity/captured_views.h"

namespace plumb {
namespace {

// Logits over the whole network, step by step as the suspect ran it, from the ids alone.
std::vector<std::optional<Tensor>> run_steps(const BoundGraph& network, const Patch& first,
                                             const Patch& later, const Captured& suspect,
                                             Precision precision, ThreadPool& pool) {
  const IdsOnly ids(suspect);
  Recompute run(network, ids, Numerics(precision), pool, first);
  run.set_later(&later);
  std::vector<std::optional<Tensor>> all;
  std::int64_t fed = 0;
  for (std::size_t step = 0; step < suspect.steps().size(); ++step) {
    const TraceStep& pass = suspect.steps()[step];
    const auto fed_ids = suspect.fed_ids(step);
    if (fed_ids.empty() || pass.first != fed) break;
    fed += pass.count;
    all.emplace_back(run.computed(step, network.graph.logits));
  }
  return all;
}

// Relative L2 of the suspect's captured logits to ours, over all steps; nothing when none were captured in the same shape.
std::optional<double> logits_distance(const Captured& suspect,
                                      const std::vector<std::optional<Tensor>>& ours) {
  double error = 0;
  double norm = 0;
  bool any = false;
  for (std::size_t step = 0; step < ours.size(); ++step) {
    const auto held = suspect.value(step, "logits");
    if (!held || !ours[step] || held->values.shape != ours[step]->shape) continue;
    any = true;
    for (std::size_t i = 0; i < held->values.data.size(); ++i) {
      const double difference = held->values.data[i] - ours[step]->data[i];
      error += difference * difference;
      norm += ours[step]->data[i] * ours[step]->data[i];
    }
  }
  if (!any || norm <= 0) return std::nullopt;
  return std::sqrt(error / norm);
}

// Whole-network noise of an honest engine, above which logits differ for a reason.
double network_noise(const Arithmetic& arithmetic) {
  if (arithmetic.formula != Precision::kFp64) return 1e-2;  // operands of half or eight bits
  const SuspectType type = arithmetic.type;
  return type == SuspectType::kFloat32 ? 2e-5 : type == SuspectType::kBfloat16 ? 2e-2 : 4e-3;
}

// Causes that attention may cancel: it sees differences of positions only, and sums over channels whatever their order.
bool may_be_harmless(const std::string& field) {
  return field.rfind("rope.", 0) == 0 || field == "linear.rows" || field == "attend.window";
}

}  // namespace

void prove(const Model& model, const Captured& suspect, Checker& checker,
           const Explanation& explanation, std::vector<Finding>& findings) {
  const Precision precision = checker.profile();
  const Patch& changed = explanation.patch;
  const Patch right;
  const auto distance = [&](const Patch& first, const Patch& later) {
    return logits_distance(
        suspect, run_steps(model.network, first, later, suspect, precision, checker.pool()));
  };
  const auto before = distance(right, right);
  // An engine may err in all passes, in the prefill alone, or in decode steps alone.
  std::optional<double> after;
  std::pair<bool, bool> passes{true, true};  // in which the causes sit: the first, the later ones
  for (const auto& [first, later] : {std::pair(true, true), std::pair(true, false),
                                     std::pair(false, true)}) {
    const auto reached = distance(first ? changed : right, later ? changed : right);
    if (reached && (!after || *reached < *after)) {
      after = reached;
      passes = {first, later};
    }
    if (after && *after <= network_noise(checker.arithmetic())) break;
  }
  const double noise = network_noise(checker.arithmetic());
  const auto exact = [&](const Patch& cause) {
    return run_steps(model.network, passes.first ? cause : right, passes.second ? cause : right,
                     suspect, Precision::kFp64, checker.pool());
  };
  // A cause, or several together, under which exact arithmetic gives the same logits reach no output.
  std::vector<std::optional<Tensor>> clean;
  const auto changes_nothing = [&](const Patch& cause) {
    constexpr double kNothing = 1e-10;
    if (clean.empty()) clean = exact(right);
    const auto other = exact(cause);
    bool same = !clean.empty();
    for (std::size_t step = 0; step < other.size(); ++step)
      same = same && residual(*other[step], *clean[step]).relative_l2 < kNothing;
    return same;
  };
  for (std::size_t i = 0; i < findings.size(); ++i) {
    Finding& finding = findings[i];
    if (!finding.row.empty() && may_be_harmless(finding.field))
      finding.harmless = changes_nothing(explanation.patches[i]);
    if (finding.field.starts_with("report.")) continue;  // no network reports
    finding.evidence.logits_before = before;
    finding.evidence.logits_after = after;
    if (finding.row.empty() || !after) continue;
    finding.proved = *after <= std::max(noise, 1e-3 * before.value_or(0));
  }
  // Rows of queries and keys in the order of neighbouring pairs, and a rotation of neighbours: what one does the other undoes.
  const auto may_cancel = [](const Finding& finding) {
    return !finding.row.empty() && may_be_harmless(finding.field);
  };
  if (findings.size() > 1 && std::ranges::all_of(findings, may_cancel) &&
      std::ranges::none_of(findings, &Finding::harmless) && changes_nothing(changed)) {
    for (Finding& finding : findings)
      finding.harmless = true;
  }
}

}  // namespace plumb
