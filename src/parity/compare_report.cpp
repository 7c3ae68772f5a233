// Names in a trace may hold anything: what goes to a terminal passes through printable(), what goes to a page through
// report_html().
#include "parity/compare_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "parity/report_html.h"

namespace plumb {
namespace {

std::string number(double value, const char* format) {
  if (std::isnan(value)) return "nan";
  return std::isinf(value) ? "inf" : fmt::format(fmt::runtime(format), value);
}

std::string place(const ComparedStage& stage) {
  if (!stage.measure.largest) return "-";
  const LargestDifference& at = *stage.measure.largest;
  std::string index;
  for (const std::int64_t i : at.index)
    index += (index.empty() ? "" : ",") + std::to_string(i);
  return fmt::format("{}{}: {} / {}", at.position, index.empty() ? "" : "[" + index + "]",
                     number(at.a, "{:.6g}"), number(at.b, "{:.6g}"));
}

std::string r_of(const ComparedStage& stage) {
  if (!stage.r_a && !stage.r_b) return "-";
  if (!stage.r_b) return number(*stage.r_a, "{:.3g}");
  return fmt::format("{} / {}", stage.r_a ? number(*stage.r_a, "{:.3g}") : "-",
                     number(*stage.r_b, "{:.3g}"));
}

double largest_of(const ComparedStage& stage) {
  if (!stage.measure.largest) return 0;
  return std::abs(stage.measure.largest->a - stage.measure.largest->b);
}

const std::vector<std::string> kColumns = {"stage",
                                           "relative L2",
                                           "x budget",
                                           "cosine",
                                           "bit-equal",
                                           "largest",
                                           "at position[index]: A / B",
                                           "R"};

std::vector<std::string> cells(const ComparedStage& stage) {
  return {stage.stage,
          number(stage.measure.relative_l2, "{:.2e}"),
          number(stage.ratio, "{:.3g}"),
          number(stage.measure.cosine, "{:.6f}"),
          number(100 * stage.measure.bit_match, "{:.1f} %"),
          number(largest_of(stage), "{:.3g}"),
          place(stage),
          r_of(stage)};
}

std::vector<const ComparedStage*> chosen(const Comparison& comparison, std::size_t most, bool all) {
  std::vector<const ComparedStage*> list;
  for (const ComparedStage& stage : comparison.stages) {
    if (all || (stage.fails && list.size() < most)) list.push_back(&stage);
  }
  return list;
}

std::size_t faults(const Comparison& comparison) {
  return static_cast<std::size_t>(std::count_if(comparison.stages.begin(), comparison.stages.end(),
                                                [](const ComparedStage& s) { return s.fails; }));
}

// Columns as wide as their widest cell; the first and the place to the left, numbers to the right.
std::string table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths(kColumns.size(), 0);
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], printable(row[i]).size());
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line = " ";
    for (std::size_t i = 0; i < row.size(); ++i)
      line += i == 0 || i == 6 ? fmt::format(" {:<{}}", printable(row[i]), widths[i])
                               : fmt::format("  {:>{}}", printable(row[i]), widths[i]);
    while (line.back() == ' ')
      line.pop_back();
    text += line + "\n";
  }
  return text;
}

std::string block(const std::string& title, const std::vector<std::string>& lines) {
  if (lines.empty()) return {};
  std::string text = "\n" + title + ":\n";
  for (const std::string& line : lines)
    text += "  " + printable(line) + "\n";
  return text;
}

}  // namespace

std::string compare_text(const Comparison& comparison, std::size_t most, bool all) {
  std::string text =
      fmt::format("{}: {}\n", to_string(comparison.verdict), printable(comparison.summary));
  text +=
      fmt::format("\nA: {}\nB: {}\n", printable(comparison.a_words), printable(comparison.b_words));
  const auto list = chosen(comparison, most, all);
  if (!list.empty()) {
    std::vector<std::vector<std::string>> rows{kColumns};
    for (const ComparedStage* stage : list)
      rows.push_back(cells(*stage));
    const std::size_t beyond = faults(comparison);
    text += all ? "\nStages:\n"
                : fmt::format("\nStages beyond the budget ({} of {}{}):\n", list.size(), beyond,
                              list.size() < beyond ? "; --all shows every stage" : "");
    text += table(rows);
    for (const ComparedStage* stage : list) {
      if (!stage->words.empty())
        text += fmt::format("  {}: {}\n", printable(stage->stage), printable(stage->words));
    }
  }
  text += block("Layouts", comparison.transforms);
  text += block("Notes", comparison.notes);
  text += block("Not observed", comparison.not_observed);
  return comparison.r_words.empty() ? text : text + "\n" + printable(comparison.r_words) + ".\n";
}

std::string compare_json(const Comparison& comparison, const CompareNames& names) {
  using nlohmann::ordered_json;
  const auto optional = [](const std::optional<double>& value) {
    return value ? ordered_json(*value) : ordered_json(nullptr);
  };
  ordered_json stages = ordered_json::array();
  for (const ComparedStage& stage : comparison.stages) {
    const Measure& m = stage.measure;
    ordered_json largest = nullptr;
    if (m.largest) {
      largest = {{"position", m.largest->position},
                 {"index", m.largest->index},
                 {"a", m.largest->a},
                 {"b", m.largest->b}};
    }
    stages.push_back({{"stage", stage.stage},
                      {"a", stage.a_name},
                      {"b", stage.b_name},
                      {"matched_by", to_string(stage.by)},
                      {"transforms", stage.transforms},
                      {"fails", stage.fails},
                      {"positions", m.positions},
                      {"elements", m.elements},
                      {"relative_l2", m.relative_l2},
                      {"cosine", m.cosine},
                      {"largest", largest},
                      {"bit_match", m.bit_match},
                      {"worst_row", m.worst_row},
                      {"worst_position", m.worst_position},
                      {"one_sided", m.broken},
                      {"budget", stage.budget},
                      {"ratio", stage.ratio},
                      {"r_a", optional(stage.r_a)},
                      {"r_b", optional(stage.r_b)},
                      {"words", stage.words}});
  }
  const ordered_json root = {
      {"format", "plumb-compare/1"},
      {"verdict", to_string(comparison.verdict)},
      {"summary", comparison.summary},
      {"a", {{"path", names.a}, {"engine", comparison.a_words}}},
      {"b", {{"path", names.b}, {"engine", comparison.b_words}}},
      {"positions",
       {{"first", comparison.tokens.first},
        {"end", comparison.tokens.end},
        {"shift", comparison.tokens.shift}}},
      {"first_fault", comparison.first_fault
                          ? ordered_json(comparison.stages[*comparison.first_fault].stage)
                          : ordered_json(nullptr)},
      {"stages", stages},
      {"transforms", comparison.transforms},
      {"notes", comparison.notes},
      {"not_observed", comparison.not_observed},
      {"r", comparison.r_words}};
  return root.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

std::string compare_html(const Comparison& comparison, const CompareNames& names, std::size_t most,
                         bool all) {
  constexpr double kRowSpread = 6;
  HtmlReport page;
  page.title = fmt::format("plumb compare {} {}", names.a, names.b);
  page.tone = comparison.verdict == ComparisonVerdict::kAgree          ? ReportTone::kGood
              : comparison.verdict == ComparisonVerdict::kIncomparable ? ReportTone::kUnclear
                                                                       : ReportTone::kBad;
  page.verdict = std::string(to_string(comparison.verdict));
  page.summary = comparison.summary;
  page.facts = {{"A", comparison.a_words}, {"B", comparison.b_words}};
  if (comparison.tokens.end > comparison.tokens.first)
    page.facts.emplace_back(
        "positions", fmt::format("{} to {}", comparison.tokens.first, comparison.tokens.end - 1));
  ReportTable stages{
      .title = all ? "Stages" : "First stages beyond the budget",
      .columns = kColumns,
      .numeric = {false, true, true, true, true, true, false, true},
      .rows = {},
      .none = comparison.stages.empty() ? "" : "Every stage compared is within its budget.",
      .note = ""};
  stages.note = fmt::format(
      "In the order of execution; {} of {} stages are beyond. What a fault changes, later stages "
      "carry. {}",
      faults(comparison), comparison.stages.size(),
      comparison.r_words.empty() ? "" : comparison.r_words + ".");
  for (const ComparedStage* stage : chosen(comparison, most, all))
    stages.rows.push_back(cells(*stage));
  page.tables.push_back(std::move(stages));

  ReportMap map{.title = "Layers and stages",
                .legend =
                    "How far A is from B, over what two right runs in these dtypes may be apart. "
                    "Hover over a cell for its numbers.",
                .cells = {}};
  for (const ComparedStage& stage : comparison.stages) {
    map.cells.push_back(
        {stage.stage, stage.ratio,
         fmt::format("relative L2 {}, largest {} at {}, bit-equal {:.1f} %{}{}",
                     number(stage.measure.relative_l2, "{:.2e}"),
                     number(largest_of(stage), "{:.3g}"), place(stage),
                     100 * stage.measure.bit_match, stage.words.empty() ? "" : "; ", stage.words)});
  }
  page.maps.push_back(std::move(map));

  ReportStrip strip{.title = "Along the positions",
                    .legend =
                        "Each token's values against its budget: the first stages at fault (or the "
                        "nearest to their budget), then the logits.",
                    .first = comparison.tokens.first,
                    .lines = {},
                    .marks = {}};
  std::vector<const ComparedStage*> lines;
  for (const ComparedStage& stage : comparison.stages) {
    if (stage.fails && lines.size() < 6) lines.push_back(&stage);
  }
  if (lines.empty()) {
    for (const ComparedStage& stage : comparison.stages)
      lines.push_back(&stage);
    std::stable_sort(
        lines.begin(), lines.end(),
        [](const ComparedStage* x, const ComparedStage* y) { return x->ratio > y->ratio; });
    lines.resize(std::min<std::size_t>(lines.size(), 3));
  }
  for (const ComparedStage& stage : comparison.stages) {
    if (stage.stage == "logits" && std::find(lines.begin(), lines.end(), &stage) == lines.end())
      lines.push_back(&stage);
  }
  constexpr std::int64_t kMostPositions = 1 << 20;
  for (const ComparedStage* stage : lines) {
    ReportStrip::Line line{.name = stage->stage, .ratios = {}};
    for (std::size_t i = 0; i < std::min(stage->positions.size(), stage->measure.row_errors.size());
         ++i) {
      const std::int64_t at = stage->positions[i] - strip.first;
      if (at < 0 || at >= kMostPositions) continue;
      if (line.ratios.size() <= static_cast<std::size_t>(at))
        line.ratios.resize(static_cast<std::size_t>(at) + 1);
      line.ratios[static_cast<std::size_t>(at)] =
          stage->measure.row_errors[i] / (kRowSpread * stage->budget);
    }
    strip.lines.push_back(std::move(line));
  }
  if (!comparison.decode_marks.empty())
    strip.marks.push_back({comparison.decode_marks.front(), "A: second pass"});
  page.strips.push_back(std::move(strip));

  page.lists.push_back({.title = "Layouts",
                        .items = comparison.transforms,
                        .none = "Names, shapes and orders are the same on both sides."});
  page.lists.push_back({.title = "Notes", .items = comparison.notes, .none = ""});
  page.lists.push_back({.title = "Not observed",
                        .items = comparison.not_observed,
                        .none = "Both sides hold every stage that either holds."});
  return report_html(page);
}

}  // namespace plumb
