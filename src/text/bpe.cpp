// Byte-pair encoding with a heap of merges: n log n in the length of a piece (`tokenizers` 0.23,
// src/models/bpe/word.rs).
#include "text/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <string>
#include <unordered_map>
#include <utility>

#include "text/hash.h"
#include "text/piece_cache.h"
#include "text/utf8.h"

namespace plumb {
namespace {

constexpr TokenId kNone = -1;

// (left, right) to its rank and its merged id, with linear probing.
class MergeTable {
 public:
  struct Entry {
    TokenId left = kNone;
    TokenId right = kNone;
    std::uint32_t rank = 0;
    TokenId merged = 0;
  };

  explicit MergeTable(std::size_t count) : slots_(std::bit_ceil(count * 2 + 2)) {}

  // False when the pair is there already.
  bool add(const Entry& entry) {
    Entry& slot = slots_[slot_of(entry.left, entry.right)];
    if (slot.left != kNone) return false;
    slot = entry;
    return true;
  }

  const Entry* find(TokenId left, TokenId right) const {
    const Entry& slot = slots_[slot_of(left, right)];
    return slot.left == kNone ? nullptr : &slot;
  }

 private:
  // Where the pair is, or the empty slot where it would be.
  std::size_t slot_of(TokenId left, TokenId right) const {
    const std::uint64_t key =
        std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
    std::size_t slot = mix(key) & (slots_.size() - 1);
    while (slots_[slot].left != kNone &&
           (slots_[slot].left != left || slots_[slot].right != right)) {
      slot = (slot + 1) & (slots_.size() - 1);
    }
    return slot;
  }

  std::vector<Entry> slots_;
};

struct Symbol {
  TokenId id;  // kNone once merged into its left neighbour
  std::uint32_t previous;
  std::uint32_t next;
};

constexpr std::uint32_t kNoSymbol = std::numeric_limits<std::uint32_t>::max();

struct Candidate {
  std::uint64_t order;  // rank << 32 | position of the left symbol: the lowest goes first
  TokenId merged;

  bool operator<(const Candidate& other) const {
    return order > other.order;
  }  // for a heap with the lowest on top
};

class BpeScratch : public TokenModel::Scratch {
 public:
  explicit BpeScratch(std::size_t text_bytes) : cache(text_bytes) {}

  PieceCache cache;
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
  std::string affixed;
};

class Bpe : public TokenModel {
 public:
  Bpe(const Vocabulary& vocabulary, MergeTable merges, BpeOptions options)
      : vocabulary_(vocabulary), merges_(std::move(merges)), options_(std::move(options)) {
    short_ids_.fill(kNone);
    for (CodePoint code = 1; code < kShortEnd; ++code) {
      std::string character;
      append_utf8(character, code);
      short_ids_[code] = vocabulary_.id(character).value_or(kNone);
    }
    if (!options_.byte_fallback) return;
    for (std::size_t byte = 0; byte < byte_ids_.size(); ++byte) {
      byte_ids_[byte] = vocabulary_.id(fmt::format("<0x{:02X}>", byte)).value_or(kNone);
    }
  }

  std::unique_ptr<Scratch> make_scratch(std::size_t text_bytes) const override {
    return std::make_unique<BpeScratch>(text_bytes);
  }

  void encode(const Pieces& pieces, Scratch& scratch, std::vector<TokenId>& ids) const override {
    auto& work = static_cast<BpeScratch&>(scratch);
    pieces.for_each([&](std::string_view piece, std::size_t) {
      if (!PieceCache::takes(piece)) return encode_piece(piece, work, ids);
      const std::uint64_t hash = PieceCache::hash_of(piece);
      PieceCache::Slot& slot = work.cache.slot_of(hash);
      if (slot.key_size != 0 && work.cache.holds(slot, hash, piece))
        return work.cache.append(slot, ids);
      const auto before = static_cast<std::ptrdiff_t>(ids.size());
      encode_piece(piece, work, ids);
      if (slot.key_size == 0) work.cache.fill(slot, hash, piece, ids.cbegin() + before, ids.cend());
    });
  }

 private:
  static constexpr CodePoint kShortEnd = 0x800;

  void encode_piece(std::string_view piece, BpeScratch& work, std::vector<TokenId>& ids) const {
    if (options_.ignore_merges) {
      if (const std::optional<TokenId> whole = vocabulary_.id(piece)) {
        ids.push_back(*whole);
        return;
      }
    }
    work.symbols.clear();
    split_symbols(piece, work);
    merge(work);
    for (const Symbol& symbol : work.symbols) {
      if (symbol.id != kNone) ids.push_back(symbol.id);
    }
  }

  static void push(BpeScratch& work, TokenId id) {
    const auto index = static_cast<std::uint32_t>(work.symbols.size());
    if (index > 0) work.symbols.back().next = index;
    work.symbols.push_back({id, index > 0 ? index - 1 : kNoSymbol, kNoSymbol});
  }

  void split_symbols(std::string_view piece, BpeScratch& work) const {
    bool unknown_pending = false;  // held back so that the next unknown symbol can join it
    const auto flush = [&] {
      if (std::exchange(unknown_pending, false)) push(work, *options_.unknown);
    };
    for (std::size_t i = 0; i < piece.size();) {
      const Decoded c = decode_at(piece, i);
      const std::string_view symbol = with_affixes(piece, i, c.size, work.affixed);
      const TokenId id = symbol_id(symbol, c);
      i += c.size;
      if (id != kNone) {
        flush();
        push(work, id);
      } else if (!push_bytes(symbol, work) && options_.unknown) {
        if (!options_.fuse_unknown) flush();
        unknown_pending = true;
      }
    }
    flush();
  }

  std::string_view with_affixes(std::string_view piece, std::size_t begin, std::size_t size,
                                std::string& out) const {
    const std::string_view symbol = piece.substr(begin, size);
    const bool has_prefix = begin > 0 && !options_.continuing_subword_prefix.empty();
    const bool has_suffix = begin + size == piece.size() && !options_.end_of_word_suffix.empty();
    if (!has_prefix && !has_suffix) return symbol;
    out.clear();
    if (has_prefix) out.append(options_.continuing_subword_prefix);
    out.append(symbol);
    if (has_suffix) out.append(options_.end_of_word_suffix);
    return out;
  }

  TokenId symbol_id(std::string_view symbol, const Decoded& c) const {
    if (symbol.size() == c.size && c.code > 0 && c.code < kShortEnd) return short_ids_[c.code];
    return vocabulary_.id(symbol).value_or(kNone);
  }

  // False when there is no byte fallback, or a byte without its token.
  bool push_bytes(std::string_view symbol, BpeScratch& work) const {
    if (!options_.byte_fallback) return false;
    const auto id_of = [this](char byte) { return byte_ids_[static_cast<unsigned char>(byte)]; };
    if (std::any_of(symbol.begin(), symbol.end(), [&](char byte) { return id_of(byte) == kNone; }))
      return false;
    for (const char byte : symbol)
      push(work, id_of(byte));
    return true;
  }

  void consider(std::uint32_t left, BpeScratch& work) const {
    const Symbol& symbol = work.symbols[left];
    if (symbol.next == kNoSymbol) return;
    const MergeTable::Entry* const merge = merges_.find(symbol.id, work.symbols[symbol.next].id);
    if (merge == nullptr) return;
    work.heap.push_back({std::uint64_t{merge->rank} << 32 | left, merge->merged});
  }

  void merge(BpeScratch& work) const {
    work.heap.clear();
    for (std::uint32_t i = 0; i < work.symbols.size(); ++i)
      consider(i, work);
    std::make_heap(work.heap.begin(), work.heap.end());
    while (!work.heap.empty()) {
      std::pop_heap(work.heap.begin(), work.heap.end());
      const Candidate best = work.heap.back();
      work.heap.pop_back();
      apply(best, work);
    }
  }

  void apply(const Candidate& candidate, BpeScratch& work) const {
    const auto position = static_cast<std::uint32_t>(candidate.order);
    Symbol& left = work.symbols[position];
    if (left.id == kNone || left.next == kNoSymbol) return;
    Symbol& right = work.symbols[left.next];
    // The symbols may have changed since the candidate was found.
    const MergeTable::Entry* const current = merges_.find(left.id, right.id);
    if (current == nullptr || current->merged != candidate.merged) return;
    left.id = candidate.merged;
    left.next = right.next;
    right.id = kNone;
    if (left.next != kNoSymbol) work.symbols[left.next].previous = position;
    const auto offer = [&](std::uint32_t at) {
      const std::size_t before = work.heap.size();
      consider(at, work);
      if (work.heap.size() > before) std::push_heap(work.heap.begin(), work.heap.end());
    };
    if (left.previous != kNoSymbol) offer(left.previous);
    offer(position);
  }

  const Vocabulary& vocabulary_;
  MergeTable merges_;
  BpeOptions options_;
  std::array<TokenId, kShortEnd> short_ids_;  // of one-character pieces
  std::array<TokenId, 256> byte_ids_;         // of <0xHH>
};

}  // namespace

Result<TokenModelPtr> make_bpe(const Vocabulary& vocabulary, const std::vector<BpeMerge>& merges,
                          BpeOptions options) {
  MergeTable table(merges.size());
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const BpeMerge& merge = merges[i];
    if (!table.add({merge.left, merge.right, merge.rank, merge.merged})) {
      return Error{ErrorCode::kCorrupt, fmt::format("merge {} is there twice", i)};
    }
  }
  return TokenModelPtr(std::make_unique<Bpe>(vocabulary, std::move(table), std::move(options)));
}

}  // namespace plumb
