// Weights whose rows, columns or values are others' in another order or through a function: what files store in a form of
// their own, and what a file of that form stores of a weight. Each view has its inverse here. A view keeps what it looks at
// alive.
#pragma once
#include <cstdint>
#include <vector>

#include "core/result.h"
#include "core/shape.h"
#include "io/weight.h"

namespace plumb {

// Heads of `width` rows in `groups` groups of `of_group` heads each; they are the last rows, those before them stay where
// they are. Grouped: all heads of the first group, then all of the second. Tiled: the first head of each group, then the
// second of each (llama.cpp's conversion/qwen.py, _reorder_v_heads).
struct HeadTiles {
  std::int64_t groups = 0;
  std::int64_t of_group = 0;
  std::int64_t width = 0;

  bool operator==(const HeadTiles&) const = default;
};

enum class TileOrder { kGrouped, kTiled };

// The rows (of a vector: the elements) in `order`, of a base in the other order.
Result<WeightPtr> tiled_rows_view(WeightPtr base, const HeadTiles& tiles, TileOrder order);

// The same for the elements of each row.
Result<WeightPtr> tiled_columns_view(WeightPtr base, const HeadTiles& tiles, TileOrder order);

// Rows (of a vector: elements) in heads of `head` each, of which llama.cpp stores the rows of the two halves in turn
// (conversion/llama.py, permute): the rows in turn, of a base in halves, and the way back.
Result<WeightPtr> rotary_turns_view(WeightPtr base, std::int64_t head);
Result<WeightPtr> rotary_halves_view(WeightPtr base, std::int64_t head);

// The base's rows are `groups` equal runs; the rows [first, first + count) of each run, one run after the other.
Result<WeightPtr> run_parts_view(WeightPtr base, std::int64_t groups, std::int64_t first,
                                 std::int64_t count);

// The inverse: `groups` runs, and in each the next `rows` rows of every part. Parts are matrices of groups * rows rows.
struct RunPart {
  WeightPtr weight;
  std::int64_t rows;
};
Result<WeightPtr> joined_runs_view(std::vector<RunPart> parts, std::int64_t groups);

// [groups, a, b] or [groups * a, b] as [groups, b, a]. Reads a group at a time and keeps some of those it has decoded.
Result<WeightPtr> transposed_groups_view(WeightPtr base, std::int64_t groups);

// Another shape with the same rows: axes before the last one joined or split, axes of one element dropped or put in.
Result<WeightPtr> same_rows_view(WeightPtr base, const Shape& shape);

// Each element through a function. log_of_minus_view gives not-a-number where the base is not negative.
WeightPtr plus_one_view(WeightPtr base);
WeightPtr less_one_view(WeightPtr base);
WeightPtr minus_exp_view(WeightPtr base);     // -exp(w)
WeightPtr log_of_minus_view(WeightPtr base);  // log(-w)

}  // namespace plumb
