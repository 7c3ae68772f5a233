// Row 59 of docs/causes.md.
#include "parity/blame.h"

#include <fmt/format.h>

#include <algorithm>

#include "parity/compare.h"

namespace plumb {
namespace {

constexpr std::string_view kBlames[] = {"neither", "suspect", "reference", "both alike", "both otherwise"};

bool departs(const Diagnosis& diagnosis) {
  return diagnosis.verdict != Verdict::kBenign && diagnosis.verdict != Verdict::kIncomparable;
}

// The worse of two verdicts: what comes first on the ladder, causes before what no cause explains.
Verdict worse(Verdict a, Verdict b) {
  for (const Verdict verdict : {Verdict::kTokens, Verdict::kFault, Verdict::kUnexplained, Verdict::kSampler, Verdict::kStop}) {
    if (a == verdict || b == verdict) return verdict;
  }
  return a;
}

// What reaches an output, by cause: stage, row, what was found.
std::vector<std::string> causes_of(const Diagnosis& diagnosis) {
  std::vector<std::string> causes;
  for (const Finding& finding : diagnosis.findings) {
    if (!finding.harmless)
      causes.push_back(finding.stage + "|" + finding.cause_row + "|" + finding.field + "|" +
                       (finding.cause_row.empty() || finding.cause_row == "8" ? "" : to_string(finding.found)));
  }
  std::sort(causes.begin(), causes.end());
  return causes;
}

const Finding& first_of(const Diagnosis& diagnosis) {
  const auto harmful = std::find_if(diagnosis.findings.begin(), diagnosis.findings.end(),
                                    [](const Finding& finding) { return !finding.harmless; });
  return harmful != diagnosis.findings.end() ? *harmful : diagnosis.findings.front();
}

std::string more_of(const Diagnosis& diagnosis) {
  const std::size_t count = diagnosis.findings.size();
  return count > 1 ? fmt::format("; and {} more", count - 1) : "";
}

void compare_ids(const char* what, const std::vector<std::int32_t>& suspect, const std::vector<std::int32_t>& reference,
                 std::vector<std::string>& words) {
  const auto [a, b] = std::mismatch(suspect.begin(), suspect.end(), reference.begin(), reference.end());
  if (a == suspect.end() && b == reference.end()) return;
  const auto place = a - suspect.begin();
  if (a == suspect.end() || b == reference.end()) {
    words.push_back(fmt::format("{}: the first {} are the same; the suspect has {}, the reference {}", what, place, suspect.size(),
                                reference.size()));
  } else {
    words.push_back(fmt::format("{}: they differ from token {} on: the suspect has {}, the reference {}", what, place, *a, *b));
  }
}

void compare_rendered(const TraceManifest& suspect, const TraceManifest& reference, std::vector<std::string>& words) {
  if (!suspect.rendered || !reference.rendered || *suspect.rendered == *reference.rendered) return;
  const std::string& x = *suspect.rendered;
  const std::string& y = *reference.rendered;
  const auto at = static_cast<std::size_t>(std::mismatch(x.begin(), x.end(), y.begin(), y.end()).first - x.begin());
  const auto rest = [&](const std::string& text) { return at < text.size() ? fmt::format("{} bytes more", text.size() - at) : "ends there"; };
  words.push_back(fmt::format("rendered prompts: they differ from byte {} on: the suspect {}, the reference {}", at,
                              at < x.size() ? "has " + rest(x) : rest(x), at < y.size() ? "has " + rest(y) : rest(y)));
}

// How far the traces are from each other, without regard to the checkpoint. Returns the largest distance in words.
std::string compare_traces(const Trace& suspect, const Trace& reference, std::vector<std::string>& words) {
  compare_rendered(suspect.manifest(), reference.manifest(), words);
  compare_ids("ids of the prompt", suspect.manifest().token_ids, reference.manifest().token_ids, words);
  if (!suspect.manifest().generated.empty() && !reference.manifest().generated.empty())
    compare_ids("ids generated", suspect.manifest().generated, reference.manifest().generated, words);
  const auto compared = compare(suspect, reference, nullptr);
  if (!compared.ok()) {
    words.push_back("values: not compared: " + compared.error().message);
    return "";
  }
  const Comparison& c = compared.value();
  if (c.verdict == ComparisonVerdict::kIncomparable) {
    words.push_back("values: not compared: " + c.summary);
    return "";
  }
  double most = 0;
  std::string where;
  for (const ComparedStage& stage : c.stages) {
    if (!(stage.measure.relative_l2 > most)) continue;
    most = stage.measure.relative_l2;
    where = stage.stage;
  }
  std::string farthest =
      where.empty() ? "every value that both hold is equal" : fmt::format("at most {:.2e} apart (relative L2), at {}", most, where);
  words.push_back(fmt::format("values: {} stages that both hold; {}", c.stages.size(), farthest));
  for (const std::string& note : c.notes) {
    if (note.find("near tie") != std::string::npos) words.push_back("A is the suspect, B the reference: " + note);
  }
  return farthest;
}

}  // namespace

std::string_view to_string(Blame blame) {
  return kBlames[static_cast<std::size_t>(blame)];
}

Diagnosis blame(Diagnosis suspect, Diagnosis reference, const Trace& suspect_trace, const Trace& reference_trace) {
  Diagnosis joined = std::move(suspect);
  const std::string farthest = compare_traces(suspect_trace, reference_trace, joined.differences);
  const bool own = departs(joined);
  const bool other = departs(reference);
  const bool alike = own && other && causes_of(joined) == causes_of(reference);
  joined.blame = alike          ? Blame::kBothAlike
                 : own && other ? Blame::kBothOtherwise
                 : own          ? Blame::kSuspect
                 : other        ? Blame::kReference
                                : Blame::kNeither;
  const bool judged = reference.verdict != Verdict::kIncomparable;
  const std::string of_suspect = own ? finding_words(first_of(joined)) + more_of(joined) : "";
  const Verdict own_verdict = joined.verdict;
  if (judged && own_verdict != Verdict::kIncomparable) joined.verdict = worse(own_verdict, reference.verdict);
  auto theirs = std::make_shared<Diagnosis>(std::move(reference));
  for (Finding& finding : theirs->findings) {
    finding.side = Side::kReference;
    if (!finding.harmless) finding.row = "59";
  }
  const std::string of_reference = other ? finding_words(first_of(*theirs)) + more_of(*theirs) : "";
  joined.findings.insert(joined.findings.end(), theirs->findings.begin(), theirs->findings.end());
  const std::string verdict(to_string(joined.verdict));
  if (!judged) {
    joined.not_observed.push_back("the reference: " + theirs->summary);
    joined.summary += "; the reference could not be judged";
  } else if (own_verdict == Verdict::kIncomparable) {
    joined.summary += other ? "; the reference departs from the checkpoint: " + of_reference : "; the reference is right";
  } else if (alike) {
    joined.summary = fmt::format("{}: both depart from the checkpoint, by the same cause: {}", verdict, of_suspect);
  } else if (own && other) {
    joined.summary = fmt::format("{}: both depart from the checkpoint: the suspect at {}; the reference at {}", verdict, of_suspect,
                                 of_reference);
  } else if (own) {
    joined.summary = fmt::format("{}: the suspect departs from the checkpoint, the reference does not: {}", verdict, of_suspect);
  } else if (other) {
    joined.summary = fmt::format("{}: the reference departs from the checkpoint, the suspect does not: {}", verdict, of_reference);
  } else {
    joined.summary = "benign: neither departs from the checkpoint; the two differ only by rounding";
    if (!farthest.empty()) joined.summary += ": " + farthest;
    if (!joined.findings.empty()) joined.summary += "; " + finding_words(joined.findings.front()) + " reaches no output";
  }
  joined.reference = std::move(theirs);
  return joined;
}

}  // namespace plumb
