// Which stage of A is which of B: by name, by what is known of other engines' names, by shape and order, and by content.
// Neither side
// needs a checkpoint. Each pair says under which layout the two hold the same values.
#pragma once
#include <string>
#include <vector>

#include "parity/channel_map.h"
#include "parity/trace_side.h"

namespace plumb {

enum class MatchedBy : std::uint8_t { kName, kContent, kOrder };
std::string_view to_string(MatchedBy by);  // "name", …

struct StagePair {
  const StagePieces* a = nullptr;
  const StagePieces* b = nullptr;
  std::string stage;  // in the trace format's words where one side has them
  MatchedBy by = MatchedBy::kName;
  RowLayout a_layout;
  RowLayout b_layout;
  std::vector<std::size_t>
      source;  // of the wider side, by channel of the narrower; empty: the same channels
  bool a_is_wide = false;
  bool keyed = false;  // rows over keys: compared key by key, `source` is A's head of each of B's
  std::vector<std::string> transforms;  // in words: what A's tensor is of B's
};

struct Pairing {
  std::vector<StagePair> pairs;  // in the order of execution
  std::vector<std::string> only_a;
  std::vector<std::string> only_b;
  std::vector<std::string>
      misfits;  // pairs by name whose shapes have nothing to do with each other
};

Pairing pair_stages(const TraceSide& a, const TraceSide& b, const TokenMatch& tokens);

// The rows of both sides at the positions that both have, B's in B's positions. At most `most` of them, spread out; 0: all.
struct CommonRows {
  RowSet a;
  RowSet b;
};
CommonRows common_rows(const TraceSide& a, const TraceSide& b, const StagePair& pair,
                       const TokenMatch& tokens, std::size_t most);

}  // namespace plumb
