// The catalogue of causes: what goes wrong in engines, how the numbers look then, and what to change. Hypotheses name its rows;
// docs/causes.md is this table, which tests/causes_test.cpp holds to it.
#pragma once
#include <string_view>
#include <vector>

namespace plumb {

struct CatalogueRow {
  std::string_view id;  // "30", "20a", "61"
  std::string_view cause;
  std::string_view signature;  // what the numbers look like
  std::string_view fix;
  // Where no field of a stage is the cause: the rung that judges it ("token_ids", "stop"), or why `plumb diagnose` does not name it.
  std::string_view judged = {};
};

struct CatalogueSection {
  std::string_view title;
  std::vector<CatalogueRow> rows;
};

// Rows 1 to 60 are specs/divergence.md's, in its sections; from 61 on, DeepSeek-V4's conventions.
const std::vector<CatalogueSection>& catalogue();

// Null where there is no such row.
const CatalogueRow* find_row(std::string_view id);

}  // namespace plumb
