// Builds a trie breadth first from sorted pieces, so that the edges of a node lie together.
#include "text/trie.h"

namespace plumb {

Trie::Trie(std::vector<std::pair<std::string_view, TokenId>> pieces) {
  std::sort(pieces.begin(), pieces.end());
  struct Range {
    std::size_t begin;  // of pieces that share the node's prefix
    std::size_t end;
    std::size_t depth;
  };

  std::vector<Range> ranges = {{0, pieces.size(), 0}};
  nodes_.emplace_back();
  for (std::size_t n = 0; n < ranges.size(); ++n) {
    auto [begin, end, range_depth] = ranges[n];
    const std::size_t depth = range_depth;  // clang 14 captures no structured binding
    if (begin < end && pieces[begin].first.size() == depth) nodes_[n].id = pieces[begin++].second;
    nodes_[n].first_edge = static_cast<std::uint32_t>(edges_.size());
    while (begin < end) {
      const auto byte = static_cast<unsigned char>(pieces[begin].first[depth]);
      const auto first = pieces.begin() + static_cast<std::ptrdiff_t>(begin);
      const auto last = std::find_if(
          first, pieces.begin() + static_cast<std::ptrdiff_t>(end), [&](const auto& piece) {
            return static_cast<unsigned char>(piece.first[depth]) != byte;
          });
      const auto node = static_cast<std::uint32_t>(nodes_.size());
      edges_.push_back({byte, node});
      nodes_.emplace_back();
      ranges.push_back({begin, static_cast<std::size_t>(last - pieces.begin()), depth + 1});
      if (n == 0) root_[byte] = node;
      begin = ranges.back().end;
    }
    nodes_[n].edge_count = static_cast<std::uint32_t>(edges_.size()) - nodes_[n].first_edge;
  }
}

}  // namespace plumb
