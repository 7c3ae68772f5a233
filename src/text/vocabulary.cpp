// Two-way lookup of pieces and ids. Memory follows the number of entries, whatever ids a file
// claims.
#include "text/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>

namespace plumb {

Status Vocabulary::add(std::string_view piece, std::int64_t id) {
  if (id < 0 || id > kMaxId) {
    return Error{ErrorCode::kCorrupt,
                 fmt::format("the token \"{}\" has the id {}, outside 0 to {}", piece, id, kMaxId)};
  }
  if (const std::optional<TokenId> known = this->id(piece)) {
    return Error{
        ErrorCode::kCorrupt,
        fmt::format("the token \"{}\" is there twice, with the ids {} and {}", piece, *known, id)};
  }
  const std::string& stored = pieces_.emplace_back(piece);
  ids_.emplace(stored, static_cast<TokenId>(id));
  by_id_.push_back({static_cast<TokenId>(id), stored});
  return {};
}

Status Vocabulary::finish() {
  const auto less = [](const Entry& a, const Entry& b) { return a.id < b.id; };
  std::sort(by_id_.begin(), by_id_.end(), less);
  const auto same = std::adjacent_find(by_id_.begin(), by_id_.end(),
                                       [](const Entry& a, const Entry& b) { return a.id == b.id; });
  if (same != by_id_.end()) {
    return Error{ErrorCode::kCorrupt, fmt::format("the tokens \"{}\" and \"{}\" share the id {}",
                                                  same->piece, std::next(same)->piece, same->id)};
  }
  return {};
}

std::optional<TokenId> Vocabulary::id(std::string_view piece) const {
  const auto found = ids_.find(piece);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

std::optional<std::string_view> Vocabulary::piece(TokenId id) const {
  const auto index = static_cast<std::size_t>(id);
  if (id >= 0 && index < by_id_.size() && by_id_[index].id == id) return by_id_[index].piece;
  const auto found =
      std::lower_bound(by_id_.begin(), by_id_.end(), id,
                       [](const Entry& entry, TokenId wanted) { return entry.id < wanted; });
  if (found == by_id_.end() || found->id != id) return std::nullopt;
  return found->piece;
}

std::int64_t Vocabulary::end_id() const {
  return by_id_.empty() ? 0 : std::int64_t{by_id_.back().id} + 1;
}

}  // namespace plumb
