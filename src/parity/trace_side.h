// One side of a comparison: a trace's stages seen by position, whatever passes computed them and whichever axis counts tokens.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "parity/stage_names.h"
#include "parity/trace.h"

namespace plumb {

// A stage as one engine names it: what each pass captured of it.
struct StagePieces {
  std::string theirs;  // without the step
  StageName name;
  struct Piece {
    std::size_t step;
    const StoredTensor* tensor;
  };
  std::vector<Piece> pieces;
};

// Where a tensor's rows stand: which axis counts tokens, the others in the order in which they are read (unit axes left out), and
// which row belongs to which token where there are more or fewer rows than tokens.
struct RowLayout {
  std::optional<std::size_t>
      token_axis;  // nothing: no token axis, one row that belongs to the pass's last position
  std::vector<std::size_t> channel_axes;
  bool from_end = false;  // rows are counted back from the pass's last token
  std::int64_t shift =
      0;  // row of the pass's first (or, from the end, last) token, in rows from that end
};

// Values by position. Rows may differ in width where a stage's last axis counts keys.
struct RowSet {
  std::vector<std::int64_t> positions;  // ascending
  std::vector<std::size_t> begin;       // of each row in values; one more than positions
  std::vector<double> values;
  std::vector<Shape> channels;         // of each row, its axes
  std::vector<std::int64_t> keys_end;  // of each row, one past the last position its pass had seen
  std::vector<std::int64_t>
      extra_keys;  // of each row, entries after the keys (compressed ones); set by who knows
  std::vector<std::size_t> steps;  // of each row, the pass
  DType dtype = DType::kF32;

  std::size_t size() const { return positions.size(); }
  std::span<const double> row(std::size_t i) const {
    return {values.data() + begin[i], begin[i + 1] - begin[i]};
  }
  // The width of every row, or nothing when they differ.
  std::optional<std::size_t> width() const;
};

class TraceSide {
 public:
  // `trace` must outlive it.
  explicit TraceSide(const Trace& trace);

  const Trace& trace() const { return *trace_; }
  const std::vector<StagePieces>& stages() const { return stages_; }  // in execution order
  const StagePieces* find_role(int layer, std::string_view role) const;

  // Position to id, of what was fed, where the manifest says it.
  const std::map<std::int64_t, std::int32_t>& ids() const { return ids_; }

  // The layouts under which a stage's shapes agree with its passes' token counts, the likeliest first; padded and trimmed ones
  // when
  // none does.
  std::vector<RowLayout> layouts(const StagePieces& stage) const;

  // The positions whose rows a stage holds under a layout, ascending.
  std::vector<std::int64_t> positions(const StagePieces& stage, const RowLayout& layout) const;

  // Rows of these positions (null: all). Empty where the layout does not fit.
  RowSet gather(const StagePieces& stage, const RowLayout& layout,
                const std::vector<std::int64_t>* only) const;

 private:
  struct Source {
    std::size_t piece;
    std::int64_t row;
  };
  std::map<std::int64_t, Source> sources(const StagePieces& stage, const RowLayout& layout) const;

  const Trace* trace_;
  std::vector<StagePieces> stages_;
  std::map<std::int64_t, std::int32_t> ids_;
};

// How B's positions follow from A's, by the ids fed.
struct TokenMatch {
  std::int64_t shift = 0;  // B's position less A's
  std::int64_t first = 0;  // the positions of A that may be compared: first … end - 1
  std::int64_t end = 0;
  std::vector<std::string> notes;
};

// An error when no position has the same id on both sides.
Result<TokenMatch> match_tokens(const TraceSide& a, const TraceSide& b);

}  // namespace plumb
