// One self-contained page about how far two computations are from each other: no script, no font, no picture from elsewhere, dark
// or light as the reader's system says. Fill an HtmlReport with plain text (names from a trace may hold anything: every string is
// escaped here, never by the caller) and write what report_html() gives:
//   HtmlReport page{.title = "plumb compare", .tone = ReportTone::kBad, .verdict = "differ", .summary = line};
//   page.facts = {{"A", "mlx 0.32, bfloat16"}};
//   page.maps.push_back({.title = "Error over budget", .legend = "…",
//                        .cells = {{"layers.0.attn.q_rope", 345.0, "relative L2 0.28"}}});
//   page.tables.push_back({.title = "Stages at fault", .columns = {"stage", "R"}, .numeric = {false, true}, .rows = …});
//   page.lists.push_back({.title = "Not observed", .items = …, .none = "Everything was observed."});
// Empty parts are left out. Stages sort into the map by their names: layers are rows, what follows "layers.N." is a column.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

enum class ReportTone : std::uint8_t { kGood, kBad, kUnclear };

// One stage. `ratio` is its error over the budget of a right engine: at most 1 is right. Nothing: it could not be judged, and
// `words` says why. Infinity and NaN are drawn as the worst.
struct ReportCell {
  std::string stage;
  std::optional<double> ratio;
  std::string words;  // for the tooltip and for readers of the page who do not see colours
};

struct ReportMap {
  std::string title;
  std::string legend;             // what the numbers are
  std::vector<ReportCell> cells;  // in the order of execution, which is the order of the columns
};

// Along positions: one line for each stage worth showing.
struct ReportStrip {
  std::string title;
  std::string legend;
  struct Line {
    std::string name;
    std::vector<std::optional<double>>
        ratios;  // by position from `first`; nothing where not compared
  };
  std::int64_t first = 0;
  std::vector<Line> lines;
  struct Mark {
    std::int64_t position;
    std::string words;  // "decode"
  };
  std::vector<Mark> marks;
};

struct ReportTable {
  std::string title;
  std::vector<std::string> columns;
  std::vector<bool> numeric;  // by column: set to the right
  std::vector<std::vector<std::string>> rows;
  std::string none;  // said in place of an empty table; empty: the table is left out
  std::string note;  // under the title
};

struct ReportList {
  std::string title;
  std::vector<std::string> items;
  std::string none;           // said in place of an empty list; empty: the list is left out
  bool preformatted = false;  // commands and the like
};

struct HtmlReport {
  std::string title;  // the command
  ReportTone tone = ReportTone::kUnclear;
  std::string verdict;  // one word
  std::string summary;  // one line
  std::vector<std::pair<std::string, std::string>> facts;
  std::vector<ReportTable> tables;
  std::vector<ReportMap> maps;
  std::vector<ReportStrip> strips;
  std::vector<ReportList> lists;
};

std::string report_html(const HtmlReport& report);

// & < > " ' as entities; control characters and bytes that are not UTF-8 as U+FFFD, bidirectional overrides too.
std::string escape_html(std::string_view text);

// The same for a terminal: what could move the cursor or hide text is replaced by "?" or U+FFFD; text stays on one line.
std::string printable(std::string_view text);

}  // namespace plumb
