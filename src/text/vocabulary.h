// Pieces and their ids: the vocabulary of a tokenizer's model together with its added tokens.
#pragma once
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/result.h"
#include "text/token_id.h"

namespace plumb {

class Vocabulary {
 public:
  static constexpr std::int64_t kMaxId = 0x7FFFFFFF;

  Vocabulary() = default;
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  // An error when the piece or the id is there already.
  Status add(std::string_view piece, std::int64_t id);

  // After the last add(): ids can be looked up. An error when two pieces share an id.
  Status finish();

  std::optional<TokenId> id(std::string_view piece) const;
  std::optional<std::string_view> piece(TokenId id) const;
  std::int64_t size() const { return static_cast<std::int64_t>(pieces_.size()); }

  // Calls each(piece, id) in the order of ids.
  template <class Each>
  void for_each(const Each& each) const {
    for (const Entry& entry : by_id_)
      each(entry.piece, entry.id);
  }

  std::int64_t end_id() const;  // one past the largest id

 private:
  struct Entry {
    TokenId id;
    std::string_view piece;
  };

  std::deque<std::string> pieces_;  // a deque, because the views below point into it
  std::unordered_map<std::string_view, TokenId> ids_;
  std::vector<Entry> by_id_;  // sorted; ids may have gaps
};

}  // namespace plumb
