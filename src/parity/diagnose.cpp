// One trace's ladder, and its verdict. Two traces: blame.h.
#include "parity/diagnose.h"

#include <algorithm>
#include <cmath>

#include "parity/along_positions.h"
#include "parity/blame.h"
#include "parity/compare_budget.h"
#include "parity/explain.h"
#include "parity/proof.h"
#include "parity/rung_verdicts.h"
#include "parity/suspect_view.h"
#include "parity/trace_writer.h"

namespace plumb {
namespace {

constexpr std::string_view kVerdicts[] = {"fault",  "benign",      "sampler",     "stop",
                                          "tokens", "unexplained", "incomparable"};
constexpr std::string_view kSides[] = {"suspect", "reference"};
constexpr std::string_view kRungVerdicts[] = {"ok", "fault", "not observed"};

std::string summarise(const Diagnosis& diagnosis) {
  if (diagnosis.findings.empty())
    return "benign: every captured value is within the budget of a right engine";
  std::string text = std::string(to_string(diagnosis.verdict)) + ": " +
                     finding_words(diagnosis.findings.front());
  if (diagnosis.findings.size() > 1)
    text += "; and " + std::to_string(diagnosis.findings.size() - 1) + " more";
  return text;
}

// What the captured positions say, as a cause like others: the network is run under it.
void add_positions(const Model& model, const std::vector<Finding>& found, Explanation& explanation) {
  for (const Finding& finding : found) {
    const bool known = std::any_of(explanation.findings.begin(), explanation.findings.end(),
                                   [&](const Finding& other) { return other.field == finding.field; });
    if (finding.field.empty() || known) continue;
    Patch patch;
    for (int i = 0; i < static_cast<int>(model.network.graph.stages.size()); ++i) {
      if (!std::holds_alternative<Rope>(model.network.graph.stages[static_cast<std::size_t>(i)].operation)) continue;
      for (const Hypothesis& hypothesis : hypotheses_about(model.network, *model.config, i)) {
        if (hypothesis.field != finding.field) continue;
        for (Patch* each : {&patch, &explanation.patch})
          hypothesis.apply(model.network, i, static_cast<double>(std::get<std::int64_t>(finding.found)), *each);
      }
    }
    explanation.findings.insert(explanation.findings.begin(), finding);
    explanation.patches.insert(explanation.patches.begin(), std::move(patch));
  }
}

std::int64_t vocabulary(const Model& model) {
  return model.network.graph.output(model.network.graph.logits).shape[0];
}

Status check_ids(const Model& model, const TraceManifest& manifest) {
  const std::int64_t vocab = vocabulary(model);
  for (const auto* ids : {&manifest.token_ids, &manifest.generated}) {
    for (const std::int32_t id : *ids) {
      if (id >= vocab)
        return Error{ErrorCode::kInvalidArgument, "the trace feeds id " + std::to_string(id) +
                                                      ", the checkpoint's vocabulary has " +
                                                      std::to_string(vocab) + " entries"};
    }
  }
  return {};
}

std::vector<Finding> joined(std::vector<Finding> first, const std::vector<Finding>& then) {
  first.insert(first.end(), then.begin(), then.end());
  return first;
}

// What each part of the ladder found, in its order.
struct Found {
  std::vector<Finding> tokens;  // the prompt and its ids
  std::vector<Finding> inputs;  // positions, padding
  std::vector<Finding> network;
  std::vector<Finding> sampler;
  std::vector<Finding> stop;
};

Verdict verdict_of(const Found& found) {
  const auto any = [&](const auto& like) { return std::any_of(found.network.begin(), found.network.end(), like); };
  const auto processed = [](const Finding& f) { return f.row == "9" || f.row == "10"; };  // after the logits
  if (!found.tokens.empty()) return Verdict::kTokens;
  const bool named = any([&](const Finding& f) { return !f.row.empty() && !f.harmless && !processed(f); });
  if (named || !found.inputs.empty()) return Verdict::kFault;
  if (any([](const Finding& f) { return f.row.empty(); })) return Verdict::kUnexplained;
  if (any(processed) || !found.sampler.empty()) return Verdict::kSampler;
  return found.stop.empty() ? Verdict::kBenign : Verdict::kStop;
}

Result<Diagnosis> diagnose_one(const Model& model, const Trace& trace, const DiagnoseOptions& options) {
  Diagnosis diagnosis;
  diagnosis.engine = run_words(trace);
  PLUMB_TRY_STATUS(check_ids(model, trace.manifest()));
  PLUMB_TRY(const StageFilter filter,
            StageFilter::parse(model.network.graph, options.stages, std::nullopt));
  ThreadPool pool(options.threads);
  Progress progress(options.progress);
  std::function<bool(const std::string&)> wanted;
  if (!options.stages.empty())
    wanted = [&filter](const std::string& output) { return filter.holds(output); };
  const ChosenView chosen = choose_view(model, trace, wanted, progress, pool);
  SuspectView& view = *chosen.view;
  const TraceManifest& manifest = view.manifest();
  const AlignedTrace& aligned = view.aligned();
  Checker& checker = view.checker();
  const TraceManifest said = with_rendered(model, chosen.prompt);
  const RungResult prompt = check_prompt(model, said);
  const RungResult tokens = check_token_ids(model, said, prompt.findings.empty());
  if (!chosen.note.empty()) diagnosis.not_observed.push_back(chosen.note);
  diagnosis.not_observed.insert(diagnosis.not_observed.end(), view.misfits().begin(), view.misfits().end());
  for (const std::string& name : aligned.unmatched())
    diagnosis.not_observed.push_back("\"" + name +
                                     "\": it is like no stage of the checkpoint's graph");
  diagnosis.checks = std::move(view.checks());
  const RungResult positions = check_positions(aligned);
  const RungResult stop = check_stop(model, aligned, manifest);
  const bool around = options.stages.empty();  // what is asked of stages alone has nothing before or after
  Explanation explanation = explain(checker, *model.config, diagnosis.checks, progress);
  const OwnLogits own = [&](std::size_t step) -> std::optional<Tensor> {
    const auto check = checker.unjudged(step, model.network.graph.logits, Reported::kLogprobs);
    return check ? std::optional(checker.whole(*check, explanation.patch)) : std::nullopt;
  };
  const RungResult sampler = check_sampler(aligned, manifest, explanation.findings, vocabulary(model), own);
  if (around) add_positions(model, positions.findings, explanation);
  std::vector<Finding> proven = explanation.findings;
  if (chosen.attended) proven.push_back(*chosen.attended);  // the network is run with the padding among its tokens
  if (!proven.empty()) prove(model, aligned, checker, explanation, proven);
  std::copy_n(proven.begin(), explanation.findings.size(), explanation.findings.begin());
  diagnosis.along = along_positions(checker, diagnosis.checks);
  diagnosis.rungs = ladder_of(model.network, diagnosis.checks, explanation.findings, aligned.steps().size(),
                              {.prompt = prompt.rung,
                               .token_ids = tokens.rung,
                               .positions = positions.rung,
                               .sampler = sampler.rung,
                               .stop = stop.rung});

  Found found{.tokens = {}, .inputs = {}, .network = explanation.findings, .sampler = {}, .stop = {}};
  if (around) {
    found.tokens = joined(prompt.findings, tokens.findings);
    // Positions that no offset explains are no convention that the network could be run under.
    if (!positions.findings.empty() && positions.findings.front().field.empty()) found.inputs = positions.findings;
    found.sampler = sampler.findings;
    found.stop = stop.findings;
  }
  if (chosen.attended) found.inputs.push_back(proven.back());
  diagnosis.verdict = verdict_of(found);
  for (const auto* part : {&found.tokens, &found.inputs, &found.network, &found.sampler, &found.stop})
    diagnosis.findings = joined(std::move(diagnosis.findings), *part);
  if (diagnosis.checks.empty() && diagnosis.findings.empty()) {
    diagnosis.verdict = Verdict::kIncomparable;
    diagnosis.summary = "incomparable: the trace holds no value of a stage that the checkpoint's graph has";
    if (!around) diagnosis.summary = "incomparable: the trace holds no value of the stages that were asked for";
    return diagnosis;
  }
  diagnosis.summary = summarise(diagnosis);
  return diagnosis;
}

}  // namespace

std::string_view to_string(Verdict verdict) {
  return kVerdicts[static_cast<std::size_t>(verdict)];
}

std::string_view to_string(Side side) {
  return kSides[static_cast<std::size_t>(side)];
}

std::string_view to_string(RungVerdict verdict) {
  return kRungVerdicts[static_cast<std::size_t>(verdict)];
}

std::string finding_words(const Finding& finding) {
  std::string text = finding.stage + ": " + finding.cause;
  if (finding.row.empty()) return text;
  text += " (row " + finding.row;
  if (finding.cause_row != finding.row && !finding.cause_row.empty()) text += ", by row " + finding.cause_row;
  return text + "; expected " + to_string(finding.expected) + ", found " + to_string(finding.found) + ")";
}

Result<Diagnosis> diagnose(const Model& model, const Trace& suspect,
                           const DiagnoseOptions& options) {
  PLUMB_TRY(Diagnosis own, diagnose_one(model, suspect, options));
  if (options.reference == nullptr) return own;
  PLUMB_TRY(Diagnosis reference, diagnose_one(model, *options.reference, options));
  return blame(std::move(own), std::move(reference), suspect, *options.reference);
}

}  // namespace plumb
