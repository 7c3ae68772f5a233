// Which pieces a text starts with: a trie over bytes, built once.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "text/token_id.h"

namespace plumb {

class Trie {
 public:
  // The pieces are distinct and not empty; their order is free.
  explicit Trie(std::vector<std::pair<std::string_view, TokenId>> pieces);

  // Calls each(size, id) for every piece that `text` starts with, the shortest first.
  template <class Each>
  void for_each_prefix(std::string_view text, const Each& each) const {
    std::uint32_t node = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
      node = child(node, static_cast<unsigned char>(text[i]));
      if (node == kNone) return;
      if (nodes_[node].id >= 0) each(i + 1, nodes_[node].id);
    }
  }

 private:
  static constexpr std::uint32_t kNone = 0;  // the root is nobody's child

  struct Node {
    std::uint32_t first_edge = 0;
    std::uint32_t edge_count = 0;
    TokenId id = -1;
  };

  struct Edge {
    unsigned char byte;
    std::uint32_t node;
  };

  std::uint32_t child(std::uint32_t node, unsigned char byte) const {
    if (node == 0) return root_[byte];
    const auto begin = edges_.begin() + nodes_[node].first_edge;
    const auto end = begin + nodes_[node].edge_count;
    const auto found = std::lower_bound(begin, end, byte,
                                        [](const Edge& e, unsigned char b) { return e.byte < b; });
    return found != end && found->byte == byte ? found->node : kNone;
  }

  std::vector<Node> nodes_;
  std::vector<Edge> edges_;
  std::array<std::uint32_t, 256> root_{};
};

}  // namespace plumb
