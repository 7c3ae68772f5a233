#include "parity/diagnose_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "parity/blame.h"
#include "parity/catalogue.h"
#include "parity/report_html.h"
#include "parity/stage_names.h"

namespace plumb {
namespace {

using nlohmann::json;

json json_of(const FieldValue& value) {
  return std::visit(
      [](const auto& held) -> json {
        if constexpr (std::is_same_v<std::decay_t<decltype(held)>, std::monostate>) {
          return nullptr;
        } else {
          return held;
        }
      },
      value);
}

json json_of(const std::optional<double>& value) {
  return value ? json(*value) : json(nullptr);
}

json row_json(const std::string& row) {
  return row.empty() ? json(nullptr) : json(row);
}

// What the catalogue says to change; null where no row is named.
const CatalogueRow* row_of(const Finding& finding) {
  return find_row(finding.cause_row.empty() ? finding.row : finding.cause_row);
}

json json_of(const Finding& finding) {
  const CatalogueRow* row = row_of(finding);
  const Evidence& e = finding.evidence;
  json alternatives = json::array();
  for (const Alternative& other : finding.alternatives) {
    json prompt = nullptr;
    if (other.tokens > 0) prompt = {{"tokens", other.tokens}, {"ids", other.ids.empty() ? json(nullptr) : json(other.ids)}};
    alternatives.push_back({{"row", other.row},
                            {"cause", other.cause},
                            {"found", json_of(other.found)},
                            {"prompt", std::move(prompt)},
                            {"words", other.words}});
  }
  return {{"side", to_string(finding.side)},
          {"stage", finding.stage},
          {"row", row_json(finding.row)},
          {"cause_row", row_json(finding.cause_row)},
          {"cause", finding.cause},
          {"fix", row == nullptr ? json(nullptr) : json(row->fix)},
          {"expected", json_of(finding.expected)},
          {"found", json_of(finding.found)},
          {"evidence",
           {{"residual_before", e.residual_before},
            {"residual_after", e.residual_after},
            {"budget", e.budget},
            {"bit_match_before", e.bit_match_before},
            {"bit_match_after", e.bit_match_after},
            {"rejected", e.rejected},
            {"logits_before", json_of(e.logits_before)},
            {"logits_after", json_of(e.logits_after)},
            {"stages", finding.stages}}},
          {"proved", finding.proved},
          {"harmless", finding.harmless},
          {"also", finding.also},
          {"alternatives", std::move(alternatives)}};
}

json json_of(const std::vector<Rung>& rungs) {
  json list = json::array();
  for (const Rung& rung : rungs)
    list.push_back({{"rung", rung.name}, {"verdict", to_string(rung.verdict)}, {"why", rung.why}});
  return list;
}

// The rungs that saw nothing, then what else was not seen.
std::vector<std::string> not_observed(const Diagnosis& diagnosis) {
  std::vector<std::string> list;
  for (const Rung& rung : diagnosis.rungs) {
    if (rung.verdict == RungVerdict::kNotObserved) list.push_back(rung.name + ": " + rung.why);
  }
  list.insert(list.end(), diagnosis.not_observed.begin(), diagnosis.not_observed.end());
  return list;
}

std::string proof_words(const Finding& finding) {
  const Evidence& e = finding.evidence;
  if (!e.logits_before || !e.logits_after) return "";
  return fmt::format("logits {:.2e} from the checkpoint's, {:.2e} from ours under all causes: {}", *e.logits_before, *e.logits_after,
                     finding.harmless ? "harmless"
                     : finding.proved ? "proved"
                                      : "not proved");
}

std::string residual_words(const Evidence& e) {
  if (e.budget <= 0) return "";
  return fmt::format(
      "residual {:.2e}, under the cause {:.2e}, budget {:.2e}; bit-equal {:.1f} %, then {:.1f} %; {} other hypotheses rejected",
      e.residual_before, e.residual_after, e.budget, 100 * e.bit_match_before, 100 * e.bit_match_after, e.rejected);
}

std::string row_words(const Finding& finding) {
  if (finding.row.empty()) return "";
  const bool blamed = finding.cause_row != finding.row;
  return fmt::format("row {}{}, expected {}, found {}", finding.row,
                     blamed ? " (the reference is wrong) by row " + (finding.cause_row.empty() ? "none" : finding.cause_row) : "",
                     to_string(finding.expected), to_string(finding.found));
}

std::vector<std::string> evidence_lines(const Finding& finding) {
  std::vector<std::string> lines = {row_words(finding), residual_words(finding.evidence), proof_words(finding)};
  if (finding.stages.size() > 1) lines.push_back(fmt::format("explains {} captured stages", finding.stages.size()));
  for (const std::string& row : finding.also) {
    const bool told = std::any_of(finding.alternatives.begin(), finding.alternatives.end(),
                                  [&](const Alternative& other) { return other.row == row; });
    if (!told) lines.push_back("the data cannot tell it from row " + row);
  }
  for (const Alternative& other : finding.alternatives)
    lines.push_back(fmt::format("the data cannot tell it from row {}: {}, found {}: {}", other.row, other.cause, to_string(other.found),
                                other.words));
  std::erase(lines, "");
  return lines;
}

// Empty where nothing is to be changed, or nobody knows what.
std::string fix_words(const Finding& finding) {
  const CatalogueRow* row = row_of(finding);
  return row == nullptr || finding.harmless ? "" : std::string(row->fix);
}

std::string ladder_text(const std::string& title, const std::vector<Rung>& rungs) {
  if (rungs.empty()) return "";
  std::string text = "\n" + title + ":\n";
  for (const Rung& rung : rungs)
    text += fmt::format("  {:<18}  {:<12}  {}\n", rung.name, to_string(rung.verdict), printable(rung.why));
  return text;
}

std::string list_text(const std::string& title, const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines)
    text += "  " + printable(line) + "\n";
  return text.empty() ? text : "\n" + title + ":\n" + text;
}

}  // namespace

std::string diagnose_text(const Diagnosis& diagnosis) {
  std::string text = printable(diagnosis.summary) + "\n";
  for (const Finding& finding : diagnosis.findings) {
    text += fmt::format("\n{}{}: {}\n", finding.side == Side::kReference ? "the reference: " : "", printable(finding.stage),
                        printable(finding.cause));
    for (const std::string& line : evidence_lines(finding))
      text += "  " + printable(line) + "\n";
    if (const std::string fix = fix_words(finding); !fix.empty()) text += "  fix: " + fix + "\n";
  }
  text += ladder_text(diagnosis.reference ? "Ladder of the suspect" : "Ladder", diagnosis.rungs);
  if (diagnosis.reference) text += ladder_text("Ladder of the reference", diagnosis.reference->rungs);
  text += list_text("How the two differ", diagnosis.differences);
  text += list_text("Not observed", diagnosis.not_observed);
  if (diagnosis.reference) text += list_text("Not observed of the reference", diagnosis.reference->not_observed);
  return text;
}

namespace {

// By profile and stage, whatever the layer and step: the least share of elements that are equal to the bit.
json profiles_of(const std::vector<Check>& checks) {
  json profiles = json::object();
  for (const Check& check : checks) {
    if (check.exact) continue;
    const std::string role = stage_name(check.stage).role;
    auto& least = profiles[std::string(to_string(check.profile))][role];
    least = least.is_null() ? check.bit_match : std::min(least.get<double>(), check.bit_match);
  }
  return profiles;
}

}  // namespace

std::string diagnose_json(const Diagnosis& diagnosis) {
  json findings = json::array();
  for (const Finding& finding : diagnosis.findings)
    findings.push_back(json_of(finding));
  json root = {{"verdict", to_string(diagnosis.verdict)},
               {"summary", diagnosis.summary},
               {"findings", findings},
               {"rungs", json_of(diagnosis.rungs)},
               {"not_observed", not_observed(diagnosis)},
               {"profiles", profiles_of(diagnosis.checks)}};
  if (diagnosis.reference) {
    root["blame"] = to_string(*diagnosis.blame);
    root["reference"] = {{"verdict", to_string(diagnosis.reference->verdict)},
                         {"summary", diagnosis.reference->summary},
                         {"rungs", json_of(diagnosis.reference->rungs)},
                         {"not_observed", not_observed(*diagnosis.reference)}};
    root["differences"] = diagnosis.differences;
  }
  return root.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

namespace {

// The worst check of each stage, in the order of execution.
std::vector<ReportCell> cells_of(const Diagnosis& diagnosis) {
  constexpr double kRowSpread = 6;
  std::vector<ReportCell> cells;
  std::map<std::string, std::size_t> places;
  for (const Check& check : diagnosis.checks) {
    if (check.exact) continue;
    const Residual& r = check.residual;
    const double ratio = std::max(r.relative_l2, r.worst_row / kRowSpread) / check.budget;
    ReportCell cell{check.stage, ratio,
                    fmt::format("pass {}, relative L2 {:.2e}, budget {:.2e}, cosine {:.6f}, bit-equal {:.1f} %", check.step,
                                r.relative_l2, check.budget, r.cosine, 100 * r.bit_match)};
    const auto [place, fresh] = places.insert({check.stage, cells.size()});
    if (fresh) {
      cells.push_back(std::move(cell));
    } else if (ratio > *cells[place->second].ratio) {
      cells[place->second] = std::move(cell);
    }
  }
  return cells;
}

void draw_side(const Diagnosis& diagnosis, const std::string& of, HtmlReport& page) {
  page.maps.push_back({.title = "Layers and stages" + of,
                       .legend = "Each captured stage against the same stage recomputed in fp64 from its own captured inputs, over "
                                 "what a right engine in this dtype may be off by; the worst of the passes. Hover over a cell for its "
                                 "numbers.",
                       .cells = cells_of(diagnosis)});
  ReportStrip strip{.title = "Along the positions" + of,
                    .legend = "Each token's values against its budget: the first stages at fault (or the nearest to their budget), "
                              "then the logits.",
                    .first = 0,
                    .lines = {},
                    .marks = {}};
  for (const PositionErrors& line : diagnosis.along)
    strip.lines.push_back({.name = line.stage, .ratios = line.ratios});
  page.strips.push_back(std::move(strip));
  ReportTable ladder{.title = "Ladder" + of,
                     .columns = {"rung", "verdict", "why"},
                     .numeric = {false, false, false},
                     .rows = {},
                     .none = "",
                     .note = "Cheapest first. What was not observed is not called right."};
  for (const Rung& rung : diagnosis.rungs)
    ladder.rows.push_back({rung.name, std::string(to_string(rung.verdict)), rung.why});
  page.tables.push_back(std::move(ladder));
}

}  // namespace

std::string diagnose_html(const Diagnosis& diagnosis, const DiagnoseNames& names) {
  HtmlReport page;
  page.title = fmt::format("plumb diagnose {} --model {}", names.suspect, names.model);
  if (!names.reference.empty()) page.title += " --reference " + names.reference;
  page.tone = diagnosis.verdict == Verdict::kBenign         ? ReportTone::kGood
              : diagnosis.verdict == Verdict::kIncomparable ? ReportTone::kUnclear
                                                            : ReportTone::kBad;
  page.verdict = std::string(to_string(diagnosis.verdict));
  page.summary = diagnosis.summary.substr(std::min(diagnosis.summary.size(), page.verdict.size() + 2));
  page.facts = {{"suspect", diagnosis.engine}, {"checkpoint", names.model}};
  if (diagnosis.reference) {
    page.facts.emplace_back("reference", diagnosis.reference->engine);
    page.facts.emplace_back("departs", to_string(*diagnosis.blame));
  }
  ReportTable findings{.title = "Findings",
                       .columns = {"stage", "cause", "fix", "evidence"},
                       .numeric = {false, false, false, false},
                       .rows = {},
                       .none = diagnosis.verdict == Verdict::kIncomparable ? "" : "No captured value is beyond its budget.",
                       .note = ""};
  for (const Finding& finding : diagnosis.findings) {
    std::string evidence;
    for (const std::string& line : evidence_lines(finding))
      evidence += (evidence.empty() ? "" : "; ") + line;
    findings.rows.push_back(
        {(finding.side == Side::kReference ? "the reference: " : "") + finding.stage, finding.cause,
         fix_words(finding), evidence});
  }
  page.tables.push_back(std::move(findings));
  const bool two = diagnosis.reference != nullptr;
  draw_side(diagnosis, two ? " of the suspect" : "", page);
  if (two) draw_side(*diagnosis.reference, " of the reference", page);
  page.lists.push_back({.title = "How the two differ", .items = diagnosis.differences, .none = ""});
  page.lists.push_back({.title = two ? "Not observed of the suspect" : "Not observed",
                        .items = not_observed(diagnosis),
                        .none = "Every rung was observed."});
  if (two) page.lists.push_back({.title = "Not observed of the reference", .items = not_observed(*diagnosis.reference), .none = ""});
  return report_html(page);
}

}  // namespace plumb
