// Pieces and their ids, for the length of one call: most pieces of a text repeat.
#pragma once
#include <algorithm>
#include <bit>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "text/hash.h"
#include "text/token_id.h"

namespace plumb {

// A slot keeps its first piece.
class PieceCache {
 public:
  explicit PieceCache(std::size_t text_bytes)
      : slots_(std::bit_ceil(std::clamp<std::size_t>(text_bytes / 8, 1, kMaxSlots))) {}

  struct Slot {
    std::uint64_t hash = 0;
    std::uint32_t key_begin = 0;
    std::uint32_t key_size = 0;  // 0: empty
    std::uint32_t ids_begin = 0;
    std::uint32_t ids_size = 0;
  };

  static bool takes(std::string_view piece) { return piece.size() <= kMaxPiece; }

  Slot& slot_of(std::uint64_t hash) { return slots_[hash & (slots_.size() - 1)]; }

  static std::uint64_t hash_of(std::string_view piece) {
    return mix(std::hash<std::string_view>()(piece));
  }

  bool holds(const Slot& slot, std::uint64_t hash, std::string_view piece) const {
    return slot.hash == hash &&
           std::string_view(keys_).substr(slot.key_begin, slot.key_size) == piece;
  }

  void append(const Slot& slot, std::vector<TokenId>& ids) const {
    const auto begin = ids_.begin() + slot.ids_begin;
    ids.insert(ids.end(), begin, begin + slot.ids_size);
  }

  void fill(Slot& slot, std::uint64_t hash, std::string_view piece,
            std::vector<TokenId>::const_iterator first, std::vector<TokenId>::const_iterator last) {
    slot = {hash, static_cast<std::uint32_t>(keys_.size()),
            static_cast<std::uint32_t>(piece.size()), static_cast<std::uint32_t>(ids_.size()),
            static_cast<std::uint32_t>(last - first)};
    keys_.append(piece);
    ids_.insert(ids_.end(), first, last);
  }

 private:
  static constexpr std::size_t kMaxSlots = 1U << 16;
  static constexpr std::size_t kMaxPiece = 64;

  std::vector<Slot> slots_;
  std::string keys_;
  std::vector<TokenId> ids_;
};

}  // namespace plumb
