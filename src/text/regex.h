// Patterns matched in linear time: a pattern becomes a table (a deterministic automaton whose
// states are ordered lists of the pattern's positions, so that the match is the one a backtracking
// matcher finds first).
//   PLUMB_TRY(const Regex digits, Regex::compile("\\p{N}{1,3}"));
//   RegexSearch search(digits, text);
//   while (auto match = search.next()) ...
// A Regex is immutable; a RegexSearch belongs to one thread.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "core/result.h"
#include "text/utf8.h"

namespace plumb {

class Regex {
 public:
  static Result<Regex> compile(std::string_view pattern);

 private:
  friend class RegexSearch;
  friend class RegexCompiler;
  static constexpr std::size_t kPageSize = 256;

  // Characters that no set of the pattern tells apart share a class.
  std::uint8_t class_of(CodePoint code) const {
    return class_pages_[page_of_[code / kPageSize] * kPageSize + code % kPageSize];
  }

  std::array<std::uint16_t, 0x110000 / kPageSize> page_of_{};
  std::vector<std::uint8_t> class_pages_;
  std::uint32_t class_count_ = 0;  // the last class is the end of the text
  std::vector<std::uint32_t>
      table_;  // [state, class]: next state << 1 | a match ends before this character
};

struct Span {
  std::size_t begin;
  std::size_t end;
};

// The matches in `text` (valid UTF-8) from left to right. An empty match that touches the match
// before it is passed over.
class RegexSearch {
 public:
  RegexSearch(const Regex& regex, std::string_view text) : regex_(regex), text_(text) {}

  std::optional<Span> next();

 private:
  std::optional<std::size_t> match_at(std::size_t begin);
  std::size_t skip_unmatchable(std::size_t position) const;
  void remember_failures(std::size_t from, std::uint32_t state, std::size_t to);

  std::uint64_t key(std::size_t position, std::uint32_t state) const {
    return position * (regex_.table_.size() / regex_.class_count_) + state;
  }

  const Regex& regex_;
  std::string_view text_;
  std::size_t position_ = 0;
  std::optional<std::size_t> last_end_;
  // Where a long look beyond the match found nothing: no later look goes through the same
  // (position, state) again, which keeps the whole search linear (T. Reps, "Maximal-munch
  // tokenization in linear time", 1998).
  std::unordered_set<std::uint64_t> failed_;
};

}  // namespace plumb
