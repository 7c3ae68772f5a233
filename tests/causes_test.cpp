// docs/causes.md is the catalogue of src/parity/catalogue.cpp with the fields that hypotheses about the test checkpoints have.
// PLUMB_UPDATE_DOCS=1 writes the page's tables anew.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "engine/model.h"
#include "parity/catalogue.h"
#include "parity/hypothesis.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kBegin = "<!-- the catalogue: written by tests/causes_test.cpp -->\n";

// The fields of each row, over all stages of all checkpoints that the tests hold.
std::map<std::string, std::set<std::string>> fields_of_rows() {
  std::map<std::string, std::set<std::string>> fields;
  for (const char* folder : {"checkpoints", "variants", "quantised"}) {
    for (const auto& entry :
         fs::directory_iterator(fs::path(PLUMB_SOURCE_DIR) / "tests/data" / folder)) {
      if (!fs::exists(entry.path() / "config.json")) continue;
      const auto model = Model::load(entry.path(), {});
      if (!model.ok()) {
        ADD_FAILURE() << model.error().message;
        continue;
      }
      const BoundGraph& network = model.value().network;
      for (int i = 0; i < static_cast<int>(network.graph.stages.size()); ++i) {
        for (const Hypothesis& hypothesis : hypotheses_about(network, *model.value().config, i))
          fields[hypothesis.row].insert(hypothesis.field);
      }
    }
  }
  return fields;
}

std::string judged(const CatalogueRow& row, const std::set<std::string>& fields) {
  std::string text(row.judged);
  for (const std::string& field : fields)
    text += (text.empty() ? "`" : ", `") + field + "`";
  return text;
}

std::string tables(const std::map<std::string, std::set<std::string>>& fields) {
  std::string text;
  for (const CatalogueSection& section : catalogue()) {
    text += fmt::format(
        "\n## {}\n\n| row | cause | signature | fix | judged by |\n|---|---|---|---|---|\n",
        section.title);
    for (const CatalogueRow& row : section.rows) {
      const auto found = fields.find(std::string(row.id));
      std::string line =
          fmt::format("| {} | {} | {} | {} | {} |", row.id, row.cause, row.signature, row.fix,
                      judged(row, found == fields.end() ? std::set<std::string>() : found->second));
      text += line + "\n";
    }
  }
  return text;
}

TEST(Causes, EveryHypothesisNamesARowOfTheCatalogue) {
  for (const auto& [row, fields] : fields_of_rows())
    EXPECT_NE(find_row(row), nullptr) << "row " << row << ", " << *fields.begin();
}

TEST(Causes, EveryRowSaysHowItIsJudged) {
  const auto fields = fields_of_rows();
  std::set<std::string_view> seen;
  for (const CatalogueSection& section : catalogue()) {
    for (const CatalogueRow& row : section.rows) {
      EXPECT_TRUE(seen.insert(row.id).second) << "row " << row.id << " is there twice";
      EXPECT_TRUE(!row.judged.empty() || fields.contains(std::string(row.id)))
          << "row " << row.id << " has no hypothesis in any test checkpoint, and does not say why";
      for (const std::string_view text : {row.cause, row.signature, row.fix})
        EXPECT_TRUE(!text.empty() && text.find('|') == std::string_view::npos) << "row " << row.id;
    }
  }
}

TEST(Causes, ThePageIsTheCatalogue) {
  const fs::path path = fs::path(PLUMB_SOURCE_DIR) / "docs/causes.md";
  std::stringstream read;
  read << std::ifstream(path).rdbuf();
  const std::string page = read.str();
  const std::size_t begin = page.find(kBegin);
  ASSERT_NE(begin, std::string::npos) << path;
  const std::string expected =
      page.substr(0, begin) + std::string(kBegin) + tables(fields_of_rows());
  if (std::getenv("PLUMB_UPDATE_DOCS") != nullptr) {
    std::ofstream(path) << expected;
    return;
  }
  EXPECT_EQ(page, expected) << "PLUMB_UPDATE_DOCS=1 writes the page anew";
}

}  // namespace
}  // namespace plumb
