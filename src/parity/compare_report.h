// A comparison in words, as JSON (docs/compare.md has the schema) and as a page.
#pragma once
#include <cstddef>
#include <string>

#include "parity/compare.h"

namespace plumb {

struct CompareNames {
  std::string a;  // as the user gave them
  std::string b;
};

// `most` rows of the table of stages at fault; with `all`, every stage is a row.
std::string compare_text(const Comparison& comparison, std::size_t most, bool all);
std::string compare_json(const Comparison& comparison, const CompareNames& names);
std::string compare_html(const Comparison& comparison, const CompareNames& names, std::size_t most,
                         bool all);

}  // namespace plumb
