// Quantised weights taken apart: codes with scales and offsets, so that they can be put together as an engine does that reads them otherwise.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "io/weight.h"

namespace plumb {

// How a file packs a weight's rows.
struct StoredForm {
  std::string name;        // "Q4_0", "4-bit integers"
  std::size_t group = 0;   // elements that share a scale
  std::size_t run = 0;     // elements whose codes share bytes, two in each; 0: no code is half a byte
  bool pairs = false;      // a byte holds neighbours, the first in its low nibble; else element i and i + run / 2
  int bits = 0;            // of a whole number; 0: codes are no whole numbers
  int zero = 0;            // taken off the stored number, which has no sign
  bool offsets = false;    // beside the scales
  double factor = 1;       // of the whole tensor, in the scales
};

// Element i is codes[i] * scales[i / group] + offsets[i / group].
struct StoredRow {
  std::vector<double> codes;
  std::vector<double> scales;
  std::vector<double> offsets;  // empty: none
};

// Nothing for plain elements, and for forms whose codes stand in grids.
std::optional<StoredForm> stored_form(const Weight& weight);
StoredRow parts_of_row(const Weight& weight, const StoredForm& form, std::int64_t row);

// The weight with each row put together from changed parts.
using Misreading = std::function<void(const Weight& weight, const StoredForm& form, std::int64_t row, StoredRow& parts)>;
WeightPtr misread_weight(WeightPtr weight, StoredForm form, Misreading change);

}  // namespace plumb
