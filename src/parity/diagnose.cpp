// One trace's ladder, and its verdict. Two traces: blame.h.
#include "parity/diagnose.h"

#include <algorithm>
#include <cmath>

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

// The errors along the positions of the first stages beyond their budgets, else of those nearest to it, and of the logits.
std::vector<PositionErrors> along_positions(Checker& checker, const std::vector<Check>& checks) {
  constexpr std::size_t kMostLines = 6;
  constexpr std::size_t kRightLines = 3;
  constexpr double kRowSpread = 6;  // one row may be as much farther
  constexpr std::int64_t kMostPositions = 1 << 16;
  const auto usable = [&](const Check& check) {
    return !check.exact && checker.network().graph.output(check.value).per_token;
  };
  std::vector<std::string> names;
  const auto add = [&](const std::string& stage) {
    if (std::find(names.begin(), names.end(), stage) == names.end()) names.push_back(stage);
  };
  for (const Check& check : checks) {
    if (check.fails && usable(check) && names.size() < kMostLines) add(check.stage);
  }
  if (names.empty()) {
    std::vector<const Check*> nearest;
    for (const Check& check : checks) {
      if (usable(check)) nearest.push_back(&check);
    }
    std::stable_sort(nearest.begin(), nearest.end(), [](const Check* a, const Check* b) {
      return a->residual.relative_l2 * b->budget > b->residual.relative_l2 * a->budget;
    });
    for (std::size_t i = 0; i < nearest.size() && names.size() < kRightLines; ++i)
      add(nearest[i]->stage);
  }
  for (const Check& check : checks) {
    if (usable(check) && (check.stage == "logits" || check.stage == "logprobs")) add(check.stage);
  }
  std::vector<PositionErrors> lines;
  for (const std::string& name : names) {
    PositionErrors line{.stage = name, .first = 0, .ratios = {}};
    for (const Check& check : checks) {
      if (check.stage != name || !usable(check)) continue;
      const TraceStep& step = checker.captured().steps()[check.step];
      const Tensor ours = checker.computed(check, {});
      if (checker.suspect(check).shape != ours.shape) continue;  // fewer keys, another number of choices
      const auto errors = row_errors(checker.suspect(check), ours);
      const std::int64_t first = step.first + step.count - std::ssize(errors);
      if (first < 0 || step.first + step.count > kMostPositions) continue;
      line.ratios.resize(std::max(line.ratios.size(), static_cast<std::size_t>(step.first + step.count)));
      for (std::size_t i = 0; i < errors.size(); ++i)
        line.ratios[static_cast<std::size_t>(first) + i] = errors[i] / (kRowSpread * check.budget);
    }
    lines.push_back(std::move(line));
  }
  return lines;
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

Status check_ids(const Model& model, const TraceManifest& manifest) {
  const auto vocab = model.network.graph.output(model.network.graph.logits).shape[0];
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

Result<Diagnosis> diagnose_one(const Model& model, const Trace& trace, const DiagnoseOptions& options) {
  Diagnosis diagnosis;
  diagnosis.engine = run_words(trace);
  PLUMB_TRY_STATUS(check_ids(model, trace.manifest()));
  PLUMB_TRY(const StageFilter filter,
            StageFilter::parse(model.network.graph, options.stages, std::nullopt));
  ThreadPool pool(options.threads);
  std::function<bool(const std::string&)> wanted;
  if (!options.stages.empty())
    wanted = [&filter](const std::string& output) { return filter.holds(output); };
  const ChosenView chosen = choose_view(model, trace, wanted, options.progress, pool);
  SuspectView& view = *chosen.view;
  const TraceManifest& manifest = view.manifest();
  const AlignedTrace& aligned = view.aligned();
  Checker& checker = view.checker();
  const RungResult prompt = check_prompt(model, chosen.prompt);
  const RungResult tokens = check_token_ids(model, chosen.prompt);
  if (!chosen.note.empty()) diagnosis.not_observed.push_back(chosen.note);
  diagnosis.not_observed.insert(diagnosis.not_observed.end(), view.misfits().begin(), view.misfits().end());
  for (const std::string& name : aligned.unmatched())
    diagnosis.not_observed.push_back("\"" + name +
                                     "\": it is like no stage of the checkpoint's graph");
  diagnosis.checks = std::move(view.checks());
  const RungResult positions = check_positions(aligned);
  const RungResult stop = check_stop(model, manifest);
  const bool around = options.stages.empty();  // what is asked of stages alone has nothing before or after
  Explanation explanation = explain(checker, *model.config, diagnosis.checks);
  const RungResult sampler = check_sampler(aligned, manifest, explanation.findings);
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

  const auto any = [&](const auto& like) {
    return std::any_of(explanation.findings.begin(), explanation.findings.end(), like);
  };
  // Positions that no offset explains are no convention that the network could be run under.
  const bool lost_positions = around && !positions.findings.empty() && positions.findings.front().field.empty();
  const auto processed = [](const Finding& f) { return f.row == "9"; };  // after the logits
  const bool named =
      lost_positions || chosen.attended || any([&](const Finding& f) { return !f.row.empty() && !f.harmless && !processed(f); });
  const bool unexplained = any([](const Finding& f) { return f.row.empty(); });
  const bool wrong_tokens = around && !(prompt.findings.empty() && tokens.findings.empty());
  const bool wrong_choice = (around && !sampler.findings.empty()) || any(processed);
  const bool wrong_stop = around && !stop.findings.empty();
  diagnosis.verdict = wrong_tokens   ? Verdict::kTokens
                      : named        ? Verdict::kFault
                      : unexplained  ? Verdict::kUnexplained
                      : wrong_choice ? Verdict::kSampler
                      : wrong_stop   ? Verdict::kStop
                                     : Verdict::kBenign;
  const auto append = [&](const std::vector<Finding>& more) {
    diagnosis.findings.insert(diagnosis.findings.end(), more.begin(), more.end());
  };
  if (around) append(prompt.findings);
  if (around) append(tokens.findings);
  if (lost_positions) append(positions.findings);
  if (chosen.attended) append({proven.back()});
  append(explanation.findings);
  if (around) append(sampler.findings);
  if (around) append(stop.findings);
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
