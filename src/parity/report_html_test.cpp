#include "parity/report_html.h"

#include <gtest/gtest.h>

#include <limits>

namespace plumb {
namespace {

const std::string kHostile = "<script>alert(1)</script>\"'&\x1b[2J\xff\xE2\x80\xAE";

TEST(ReportHtml, EscapesMarkupControlsAndBadBytes) {
  EXPECT_EQ(escape_html("a<b>&\"'"), "a&lt;b&gt;&amp;&quot;&#39;");
  EXPECT_EQ(escape_html("\x1b[31m"), "\xEF\xBF\xBD[31m");
  EXPECT_EQ(escape_html("\xff"), "\xEF\xBF\xBD");
  EXPECT_EQ(escape_html("\xE2\x80\xAE"), "\xEF\xBF\xBD");  // right-to-left override
  EXPECT_EQ(printable("a\nb\x1b"),
            "a\xEF\xBF\xBD"
            "b\xEF\xBF\xBD");
}

// Hostile words everywhere that a caller can put words: no markup of theirs, no control character.
TEST(ReportHtml, NoStringReachesThePageRaw) {
  HtmlReport page{.title = kHostile,
                  .tone = ReportTone::kBad,
                  .verdict = kHostile,
                  .summary = kHostile,
                  .facts = {{kHostile, kHostile}},
                  .tables = {},
                  .maps = {},
                  .strips = {},
                  .lists = {}};
  page.tables.push_back({.title = kHostile,
                         .columns = {kHostile},
                         .numeric = {false},
                         .rows = {{kHostile}},
                         .none = "",
                         .note = kHostile});
  page.tables.push_back(
      {.title = "t", .columns = {}, .numeric = {}, .rows = {}, .none = kHostile, .note = ""});
  page.maps.push_back(
      {.title = kHostile,
       .legend = kHostile,
       .cells = {{"layers.0." + kHostile, 2.0, kHostile}, {kHostile, 0.1, kHostile}}});
  page.strips.push_back({.title = kHostile,
                         .legend = kHostile,
                         .first = 0,
                         .lines = {{kHostile, {1.0, std::nullopt}}},
                         .marks = {{1, kHostile}}});
  page.lists.push_back({.title = kHostile, .items = {kHostile}, .none = "", .preformatted = true});
  page.lists.push_back({.title = kHostile, .items = {}, .none = kHostile, .preformatted = false});
  const std::string html = report_html(page);
  EXPECT_EQ(html.find("<script"), std::string::npos);
  EXPECT_EQ(html.find('\x1b'), std::string::npos);
  EXPECT_EQ(html.find('\xff'), std::string::npos);
  EXPECT_EQ(html.find("\xE2\x80\xAE"), std::string::npos);
  EXPECT_EQ(html.find("alert(1)</script>"), std::string::npos);
}

TEST(ReportHtml, DrawsLayersAsRowsAndSaysEveryNumber) {
  HtmlReport page;
  page.maps.push_back({.title = "m",
                       .legend = "",
                       .cells = {{"embed", 0.0, ""},
                                 {"layers.2.attn.q", 0.43, "words"},
                                 {"layers.2.attn.k", std::numeric_limits<double>::quiet_NaN(), ""},
                                 {"layers.10.attn.q", 4321.0, ""},
                                 {"layers.x.attn.q", std::nullopt, ""}}});
  const std::string html = report_html(page);
  EXPECT_NE(html.find("<th scope=\"row\">2</th><td class=\"c s2\" title=\"layers.2.attn.q: 0.43 of "
                      "the budget; words\">.4</td>"
                      "<td class=\"c s7\" title=\"layers.2.attn.k: not a number\">\u221e</td>"),
            std::string::npos);
  EXPECT_NE(html.find(">e3</td><td class=\"e\"></td>"), std::string::npos);
  EXPECT_NE(html.find("<th scope=\"row\">layers.x.attn.q</th><td class=\"c n\""),
            std::string::npos);
}

TEST(ReportHtml, AStripOfManyPositionsKeepsTheWorst) {
  HtmlReport page;
  std::vector<std::optional<double>> ratios(1000, 0.01);
  ratios[777] = 50;
  page.strips.push_back({.title = "s",
                         .legend = "",
                         .first = 5,
                         .lines = {{"logits", ratios}},
                         .marks = {{900, "decode"}}});
  const std::string html = report_html(page);
  EXPECT_NE(html.find("logits, positions 781 to 788: 50 of the budget"), std::string::npos);
  EXPECT_NE(html.find(">decode</text>"), std::string::npos);
}

}  // namespace
}  // namespace plumb
