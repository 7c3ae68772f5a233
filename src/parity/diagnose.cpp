// The ladder, the proof and the verdict.
#include "parity/diagnose.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "parity/alignment.h"
#include "parity/captured_views.h"
#include "parity/explain.h"
#include "parity/rungs.h"

namespace plumb {
namespace {

constexpr std::string_view kVerdicts[] = {"fault",  "benign",      "sampler",     "stop",
                                          "tokens", "unexplained", "incomparable"};

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
double network_noise(SuspectType type) {
  return type == SuspectType::kFloat32 ? 2e-5 : type == SuspectType::kBfloat16 ? 2e-2 : 4e-3;
}

// Causes that attention may cancel: it sees differences of positions only, and sums over channels whatever their order.
bool may_be_harmless(const std::string& field) {
  return field.rfind("rope.", 0) == 0 || field == "linear.rows" || field == "attend.window";
}

void prove(const Model& model, const Captured& suspect, Checker& checker,
           const Explanation& explanation, Diagnosis& diagnosis) {
  const Precision precision =
      checker.type() == SuspectType::kBfloat16 ? Precision::kHfBf16 : Precision::kFp32;
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
    if (after && *after <= network_noise(checker.type())) break;
  }
  const double noise = network_noise(checker.type());
  const auto exact = [&](const Patch& cause) {
    return run_steps(model.network, passes.first ? cause : right, passes.second ? cause : right,
                     suspect, Precision::kFp64, checker.pool());
  };
  std::vector<std::optional<Tensor>> clean;
  for (std::size_t i = 0; i < diagnosis.findings.size(); ++i) {
    Finding& finding = diagnosis.findings[i];
    // A cause under which exact arithmetic gives the same logits reaches no output.
    constexpr double kNothing = 1e-10;
    if (!finding.row.empty() && may_be_harmless(finding.field)) {
      if (clean.empty()) clean = exact(right);
      const auto other = exact(explanation.patches[i]);
      finding.harmless = !clean.empty();
      for (std::size_t step = 0; step < other.size(); ++step)
        finding.harmless = finding.harmless &&
                           residual(*other[step], *clean[step]).relative_l2 < kNothing;
    }
    finding.evidence.logits_before = before;
    finding.evidence.logits_after = after;
    if (finding.row.empty() || !after) continue;
    finding.proved = *after <= std::max(noise, 1e-3 * before.value_or(0));
  }
}

nlohmann::json json_of(const FieldValue& value) {
  return std::visit(
      [](const auto& held) -> nlohmann::json {
        if constexpr (std::is_same_v<std::decay_t<decltype(held)>, std::monostate>) {
          return nullptr;
        } else {
          return held;
        }
      },
      value);
}

std::string summarise(const Diagnosis& diagnosis) {
  if (diagnosis.findings.empty())
    return "benign: every captured value is within the budget of a right engine";
  std::string text = std::string(to_string(diagnosis.verdict)) + ": ";
  const Finding& first = diagnosis.findings.front();
  text += first.stage + ": " + first.cause;
  if (!first.row.empty())
    text += " (row " + first.row + "; expected " + to_string(first.expected) + ", found " +
            to_string(first.found) + ")";
  if (diagnosis.findings.size() > 1)
    text += "; and " + std::to_string(diagnosis.findings.size() - 1) + " more";
  return text;
}

}  // namespace

std::string_view to_string(Verdict verdict) {
  return kVerdicts[static_cast<std::size_t>(verdict)];
}

Result<Diagnosis> diagnose(const Model& model, const Trace& suspect,
                           const DiagnoseOptions& options) {
  Diagnosis diagnosis;
  const TraceManifest& manifest = suspect.manifest();
  const auto vocab = model.network.graph.output(model.network.graph.logits).shape[0];
  for (const auto* ids : {&manifest.token_ids, &manifest.generated}) {
    for (const std::int32_t id : *ids) {
      if (id >= vocab)
        return Error{ErrorCode::kInvalidArgument, "the trace feeds id " + std::to_string(id) +
                                                      ", the checkpoint's vocabulary has " +
                                                      std::to_string(vocab) + " entries"};
    }
  }
  const auto tokens = check_token_ids(model, manifest, diagnosis.not_observed);
  std::vector<DType> held;
  for (const StoredTensor& tensor : suspect.tensors())
    held.push_back(tensor.dtype);
  ThreadPool pool(options.threads);
  const AlignedTrace aligned(suspect, model.network, pool);
  for (const std::string& name : aligned.unmatched())
    diagnosis.not_observed.push_back("\"" + name +
                                     "\": it is like no stage of the checkpoint's graph");
  Checker checker(model.network, aligned, suspect_type(manifest.dtype, held), pool);
  diagnosis.checks = checker.run(options.progress);
  if (diagnosis.checks.empty() && tokens.empty()) {
    diagnosis.verdict = Verdict::kIncomparable;
    diagnosis.summary =
        "incomparable: the trace holds no value of a stage that the checkpoint's graph has";
    return diagnosis;
  }
  const Explanation explanation = explain(checker, *model.config, diagnosis.checks);
  diagnosis.findings = explanation.findings;
  if (!diagnosis.findings.empty())
    prove(model, aligned, checker, explanation, diagnosis);

  const bool unexplained = std::any_of(diagnosis.findings.begin(), diagnosis.findings.end(),
                                       [](const Finding& f) { return f.row.empty(); });
  const bool named = std::any_of(diagnosis.findings.begin(), diagnosis.findings.end(),
                                 [](const Finding& f) { return !f.row.empty() && !f.harmless; });
  const auto sampler = check_sampler(aligned, manifest, diagnosis.not_observed);
  const auto stop = check_stop(model, manifest, diagnosis.not_observed);
  diagnosis.verdict = !tokens.empty()    ? Verdict::kTokens
                      : named            ? Verdict::kFault
                      : unexplained      ? Verdict::kUnexplained
                      : !sampler.empty() ? Verdict::kSampler
                      : !stop.empty()    ? Verdict::kStop
                                         : Verdict::kBenign;
  diagnosis.findings.insert(diagnosis.findings.begin(), tokens.begin(), tokens.end());
  diagnosis.findings.insert(diagnosis.findings.end(), sampler.begin(), sampler.end());
  diagnosis.findings.insert(diagnosis.findings.end(), stop.begin(), stop.end());
  diagnosis.summary = summarise(diagnosis);
  return diagnosis;
}

std::string to_json(const Diagnosis& diagnosis) {
  nlohmann::json findings = nlohmann::json::array();
  for (const Finding& finding : diagnosis.findings) {
    const Evidence& e = finding.evidence;
    const auto optional = [](const std::optional<double>& value) {
      return value ? nlohmann::json(*value) : nlohmann::json(nullptr);
    };
    findings.push_back(
        {{"stage", finding.stage},
         {"row", finding.row.empty() ? nlohmann::json(nullptr) : nlohmann::json(finding.row)},
         {"cause", finding.cause},
         {"expected", json_of(finding.expected)},
         {"found", json_of(finding.found)},
         {"evidence",
          {{"residual_before", e.residual_before},
           {"residual_after", e.residual_after},
           {"budget", e.budget},
           {"bit_match_before", e.bit_match_before},
           {"bit_match_after", e.bit_match_after},
           {"rejected", e.rejected},
           {"logits_before", optional(e.logits_before)},
           {"logits_after", optional(e.logits_after)},
           {"stages", finding.stages}}},
         {"proved", finding.proved},
         {"harmless", finding.harmless},
         {"also", finding.also}});
  }
  const nlohmann::json root = {{"verdict", to_string(diagnosis.verdict)},
                               {"summary", diagnosis.summary},
                               {"findings", findings},
                               {"not_observed", diagnosis.not_observed}};
  return root.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace plumb
