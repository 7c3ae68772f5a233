// HTML 5 and SVG 1.1, styled by report_style.h. Colours are eight steps of the error over its budget, dark for bad; each cell
// also says its number, so that nothing is told by colour alone.
#include "parity/report_html.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "parity/report_style.h"
#include "text/utf8.h"

namespace plumb {
namespace {

// Steps of the colour scale: the largest ratio of each.
constexpr double kSteps[] = {0.1, 0.3, 1, 3, 10, 100, 1000};
constexpr std::string_view kStepWords[] = {"to 0.1", "to 0.3", "to 1",    "to 3",
                                           "to 10",  "to 100", "to 1000", "more"};

std::string colour_class(const std::optional<double>& ratio) {
  if (!ratio) return "n";
  std::size_t step = 0;
  while (step < std::size(kSteps) && !(*ratio <= kSteps[step]))
    ++step;
  return fmt::format("s{}", step);
}

// At most three characters: ".4", "7", "58", "3e4".
std::string compact(const std::optional<double>& ratio) {
  if (!ratio) return "\u2013";
  if (!std::isfinite(*ratio)) return "\u221e";
  if (*ratio < 0.05) return "0";
  if (*ratio < 0.95) return fmt::format(".{:.0f}", *ratio * 10);
  if (*ratio < 999.5) return fmt::format("{:.0f}", *ratio);
  const int power = static_cast<int>(std::floor(std::log10(*ratio)));
  return fmt::format("e{}", power);
}

struct Place {
  std::int64_t layer;  // -1: outside the layers
  std::string stage;
};

Place place_of(const std::string& name) {
  constexpr std::string_view kLayers = "layers.";
  constexpr std::size_t kMaxDigits = 9;
  if (name.rfind(kLayers, 0) != 0) return {-1, name};
  std::size_t at = kLayers.size();
  std::int64_t layer = 0;
  while (at < name.size() && name[at] >= '0' && name[at] <= '9' && at < kLayers.size() + kMaxDigits)
    layer = 10 * layer + (name[at++] - '0');
  if (at == kLayers.size() || at + 1 >= name.size() || name[at] != '.') return {-1, name};
  return {layer, name.substr(at + 1)};
}

std::string cell_words(const ReportCell& cell) {
  std::string text = cell.stage;
  if (cell.ratio)
    text += std::isfinite(*cell.ratio) ? fmt::format(": {:.3g} of the budget", *cell.ratio)
                                       : ": not a number";
  return cell.words.empty() ? text : text + "; " + cell.words;
}

std::string coloured_cell(const ReportCell& cell) {
  return fmt::format("<td class=\"c {}\" title=\"{}\">{}</td>", colour_class(cell.ratio),
                     escape_html(cell_words(cell)), compact(cell.ratio));
}

std::string scale() {
  std::string out = "<p class=\"scale\"><span class=\"say\">error / budget</span>";
  for (std::size_t i = 0; i < std::size(kStepWords); ++i)
    out += fmt::format("<span class=\"key s{}\">{}</span>", i, kStepWords[i]);
  return out + "<span class=\"key n\">not compared</span></p>\n";
}

std::string map_part(const ReportMap& map) {
  std::vector<std::string> columns;
  std::map<std::int64_t, std::map<std::string, const ReportCell*>> rows;
  std::string outside;
  std::string previous;  // the stage before, in the order of execution
  for (const ReportCell& cell : map.cells) {
    const Place place = place_of(cell.stage);
    if (place.layer < 0) {
      outside += fmt::format("<tr><th scope=\"row\">{}</th>{}</tr>", escape_html(cell.stage),
                             coloured_cell(cell));
      continue;
    }
    // A stage that earlier layers lack stands where this layer computes it.
    const auto known = std::find(columns.begin(), columns.end(), place.stage);
    const auto after = std::find(columns.begin(), columns.end(), previous);
    if (known == columns.end())
      columns.insert(after == columns.end() ? after : after + 1, place.stage);
    previous = place.stage;
    rows[place.layer][place.stage] = &cell;
  }
  std::string out = fmt::format("<section><h2>{}</h2>\n<p class=\"note\">{}</p>\n{}",
                                escape_html(map.title), escape_html(map.legend), scale());
  out += "<div class=\"maps\">";
  if (!rows.empty()) {
    out += "<div class=\"scroll\"><table class=\"map\"><thead><tr><th scope=\"col\">layer</th>";
    for (const std::string& column : columns)
      out +=
          fmt::format("<th scope=\"col\" class=\"up\"><span>{}</span></th>", escape_html(column));
    out += "</tr></thead>\n<tbody>";
    for (const auto& [layer, cells] : rows) {
      out += fmt::format("<tr><th scope=\"row\">{}</th>", layer);
      for (const std::string& column : columns) {
        const auto cell = cells.find(column);
        out += cell != cells.end() ? coloured_cell(*cell->second) : "<td class=\"e\"></td>";
      }
      out += "</tr>\n";
    }
    out += "</tbody></table></div>";
  }
  if (!outside.empty()) {
    out +=
        "<div class=\"scroll\"><table class=\"map\"><caption>Outside the layers</caption><tbody>" +
        outside + "</tbody></table></div>";
  }
  return out + "</div></section>\n";
}

// The worst ratio among positions [begin, end), and whether any was compared.
std::optional<double> worst(const std::vector<std::optional<double>>& ratios, std::size_t begin,
                            std::size_t end) {
  std::optional<double> found;
  for (std::size_t i = begin; i < std::min(end, ratios.size()); ++i) {
    if (ratios[i] && (!found || !(*ratios[i] <= *found))) found = ratios[i];
  }
  return found;
}

std::string strip_part(const ReportStrip& strip) {
  constexpr std::size_t kMostCells = 128;
  constexpr double kLabel = 230;  // pixels
  constexpr double kWidth = 980;
  constexpr double kLine = 22;
  constexpr double kTop = 20;
  std::size_t positions = 0;
  for (const auto& line : strip.lines)
    positions = std::max(positions, line.ratios.size());
  if (positions == 0) return {};
  const std::size_t bucket = (positions + kMostCells - 1) / kMostCells;
  const std::size_t cells = (positions + bucket - 1) / bucket;
  const double step = std::min(24.0, (kWidth - kLabel) / static_cast<double>(cells));
  const double height = kTop + kLine * static_cast<double>(strip.lines.size()) + 24;
  std::string out = fmt::format(
      "<section><h2>{}</h2>\n<p class=\"note\">{}{}</p>\n<div class=\"scroll\"><svg role=\"img\" "
      "aria-label=\"{}\" "
      "width=\"{}\" height=\"{}\" viewBox=\"0 0 {} {}\">",
      escape_html(strip.title), escape_html(strip.legend),
      bucket > 1 ? fmt::format(" Each cell is the worst of {} positions.", bucket) : "",
      escape_html(strip.title), kWidth, height, kWidth, height);
  for (std::size_t l = 0; l < strip.lines.size(); ++l) {
    const auto& line = strip.lines[l];
    const double y = kTop + kLine * static_cast<double>(l);
    out += fmt::format("<text class=\"label\" x=\"{}\" y=\"{}\">{}</text>", kLabel - 8, y + 14,
                       escape_html(line.name));
    for (std::size_t c = 0; c < cells; ++c) {
      const auto ratio = worst(line.ratios, c * bucket, (c + 1) * bucket);
      const std::int64_t first = strip.first + static_cast<std::int64_t>(c * bucket);
      const std::int64_t last =
          strip.first + static_cast<std::int64_t>(std::min((c + 1) * bucket, positions)) - 1;
      const std::string where = first == last ? fmt::format("position {}", first)
                                              : fmt::format("positions {} to {}", first, last);
      const std::string what = ratio ? fmt::format("{:.3g} of the budget", *ratio) : "not compared";
      out += fmt::format(
          "<rect class=\"{}\" x=\"{:.2f}\" y=\"{}\" width=\"{:.2f}\" height=\"18\"><title>{}, {}: "
          "{}</title></rect>",
          colour_class(ratio), kLabel + step * static_cast<double>(c), y, std::max(step - 1, 1.0),
          escape_html(line.name), where, what);
    }
  }
  const double axis = kTop + kLine * static_cast<double>(strip.lines.size()) + 14;
  const auto x_of = [&](std::int64_t position) {
    return kLabel +
           step * static_cast<double>(position - strip.first) / static_cast<double>(bucket);
  };
  const std::size_t every = std::max<std::size_t>(1, (cells + 11) / 12);
  for (std::size_t c = 0; c < cells; c += every) {
    const std::int64_t position = strip.first + static_cast<std::int64_t>(c * bucket);
    out += fmt::format("<text class=\"tick\" x=\"{:.2f}\" y=\"{}\">{}</text>",
                       x_of(position) + step / 2, axis, position);
  }
  for (const auto& mark : strip.marks) {
    if (mark.position < strip.first ||
        mark.position >= strip.first + static_cast<std::int64_t>(positions))
      continue;
    const double x = x_of(mark.position);
    const bool to_the_left =
        x > kLabel + (kWidth - kLabel) / 2;  // or the words might leave the picture
    out += fmt::format(
        "<line class=\"mark\" x1=\"{0:.2f}\" x2=\"{0:.2f}\" y1=\"6\" y2=\"{1}\"/><text "
        "x=\"{2:.2f}\" y=\"13\" "
        "text-anchor=\"{3}\">{4}</text>",
        x - 0.5, axis - 12, to_the_left ? x - 4 : x + 3, to_the_left ? "end" : "start",
        escape_html(mark.words));
  }
  return out + "</svg></div></section>\n";
}

std::string table_part(const ReportTable& table) {
  if (table.rows.empty() && table.none.empty()) return {};
  std::string out = fmt::format("<section><h2>{}</h2>\n", escape_html(table.title));
  if (!table.note.empty()) out += "<p class=\"note\">" + escape_html(table.note) + "</p>\n";
  if (table.rows.empty()) return out + "<p>" + escape_html(table.none) + "</p></section>\n";
  const auto side = [&](std::size_t i) {
    return i < table.numeric.size() && table.numeric[i] ? " class=\"num\"" : "";
  };
  out += "<div class=\"scroll\"><table class=\"data\"><thead><tr>";
  for (std::size_t i = 0; i < table.columns.size(); ++i)
    out += fmt::format("<th scope=\"col\"{}>{}</th>", side(i), escape_html(table.columns[i]));
  out += "</tr></thead>\n<tbody>";
  for (const auto& row : table.rows) {
    out += "<tr>";
    for (std::size_t i = 0; i < row.size(); ++i)
      out += fmt::format("<td{}>{}</td>", side(i), escape_html(row[i]));
    out += "</tr>\n";
  }
  return out + "</tbody></table></div></section>\n";
}

std::string list_part(const ReportList& list) {
  if (list.items.empty() && list.none.empty()) return {};
  std::string out = fmt::format("<section><h2>{}</h2>\n", escape_html(list.title));
  if (list.items.empty()) return out + "<p>" + escape_html(list.none) + "</p></section>\n";
  if (list.preformatted) {
    for (const std::string& item : list.items)
      out += "<pre>" + escape_html(item) + "</pre>\n";
    return out + "</section>\n";
  }
  out += "<ul>";
  for (const std::string& item : list.items)
    out += "<li>" + escape_html(item) + "</li>\n";
  return out + "</ul></section>\n";
}

// Whether a reader would not see the character, or would see others out of their order.
bool hidden(CodePoint code) {
  return code < 0x20 || (code >= 0x7F && code < 0xA0) || (code >= 0x200B && code <= 0x200F) ||
         (code >= 0x2028 && code <= 0x202E) || (code >= 0x2060 && code <= 0x206F) || code == 0xFEFF;
}

// Valid UTF-8 in which hidden characters are U+FFFD.
std::string visible(std::string_view text) {
  const std::string valid = to_valid_utf8(text);
  std::string out;
  for (std::size_t at = 0; at < valid.size();) {
    const Decoded next = decode_at(valid, at);
    if (hidden(next.code)) {
      append_utf8(out, 0xFFFD);
    } else {
      out.append(valid, at, next.size);
    }
    at += next.size;
  }
  return out;
}

}  // namespace

std::string printable(std::string_view text) {
  return visible(text);
}

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : visible(text)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string report_html(const HtmlReport& report) {
  constexpr std::string_view kTones[] = {"good", "bad", "unclear"};
  std::string out = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta "
      "http-equiv=\"Content-Security-Policy\" "
      "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n<meta name=\"viewport\" "
      "content=\"width=device-width, "
      "initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n<title>{}: "
      "{}</title>\n<style>{}</style></head>\n"
      "<body><main>\n<header class=\"{}\"><p class=\"command\">{}</p><h1><span "
      "class=\"badge\">{}</span> <span "
      "class=\"summary\">{}</span></h1>",
      escape_html(report.title), escape_html(report.verdict), kReportStyle,
      kTones[static_cast<std::size_t>(report.tone)], escape_html(report.title),
      escape_html(report.verdict), escape_html(report.summary));
  if (!report.facts.empty()) {
    out += "<dl>";
    for (const auto& [name, value] : report.facts)
      out +=
          fmt::format("<div><dt>{}</dt><dd>{}</dd></div>", escape_html(name), escape_html(value));
    out += "</dl>";
  }
  out += "</header>\n";
  for (const ReportTable& table : report.tables)
    out += table_part(table);
  for (const ReportMap& map : report.maps)
    out += map.cells.empty() ? "" : map_part(map);
  for (const ReportStrip& strip : report.strips)
    out += strip_part(strip);
  for (const ReportList& list : report.lists)
    out += list_part(list);
  return out + "</main></body></html>\n";
}

}  // namespace plumb
