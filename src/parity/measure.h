// How far one side's rows are from the other's, and where most.
#pragma once
#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "parity/trace_side.h"

namespace plumb {

struct LargestDifference {
  std::int64_t position = 0;        // A's
  std::vector<std::int64_t> index;  // within the token's values, in B's axes
  double a = 0;
  double b = 0;
};

struct Measure {
  std::int64_t positions = 0;
  std::int64_t elements = 0;  // compared: finite and unmasked on at least one side
  double relative_l2 = 0;     // |a - b| / |b|
  double cosine = 1;
  double bit_match =
      1;  // share of elements that are equal once both are rounded to the narrower dtype
  double worst_row =
      0;  // the largest row's |a - b| over the larger of |b| of that row and the mean row's
  std::int64_t worst_position = 0;
  std::optional<LargestDifference> largest;
  std::int64_t broken = 0;         // elements that are finite on one side only
  std::int64_t not_numbers = 0;    // on both sides
  std::vector<double> row_errors;  // as worst_row, of each row
};

// For each of b's heads, a's head that is nearest over keyed rows, where each of a's is nearest to one; nothing otherwise.
std::optional<std::vector<std::size_t>> match_heads(const RowSet& a, const RowSet& b);

// Row i of `a` against row i of `b`, of equal numbers of rows. Where rows are keyed (`over_keys`), a key that only one side
// holds must be
// masked there (a probability of 0, a score of -inf or -6e4 and below). `source`: b's channel c is a's source[c] when
// `a_is_wide`,
// else a's channel c is b's source[c]; of keyed rows b's head h is a's source[h]. Rows at positions in `leave_out` (A's) are
// not counted.
Measure measure(const RowSet& a, const RowSet& b, const std::vector<std::size_t>& source,
                bool a_is_wide, bool over_keys, const std::set<std::int64_t>& leave_out);

}  // namespace plumb
