// Matching with the table of a compiled pattern.
#include "text/regex.h"

namespace plumb {
namespace {

constexpr std::uint32_t kDead = 0;
constexpr std::uint32_t kStart = 1;
constexpr std::size_t kLongLook =
    128;  // bytes beyond the match that are scanned again rather than remembered

}  // namespace

std::optional<Span> RegexSearch::next() {
  while (position_ <= text_.size()) {
    const std::size_t begin = skip_unmatchable(position_);
    const std::optional<std::size_t> end = match_at(begin);
    const bool touches_last = end && *end == begin && last_end_ == *end;
    if (end && !touches_last) {
      position_ = *end;
      last_end_ = end;
      return Span{begin, *end};
    }
    position_ = begin + (begin < text_.size() ? decode_at(text_, begin).size : 1);
  }
  return std::nullopt;
}

// The next position where the first character does not end the match at once.
std::size_t RegexSearch::skip_unmatchable(std::size_t position) const {
  const std::uint32_t* const row = regex_.table_.data() + kStart * regex_.class_count_;
  while (position < text_.size()) {
    const Decoded c = decode_at(text_, position);
    if (row[regex_.class_of(c.code)] != 0) break;
    position += c.size;
  }
  return position;
}

std::optional<std::size_t> RegexSearch::match_at(std::size_t begin) {
  std::optional<std::size_t> end;
  std::uint32_t state = kStart;
  std::uint32_t state_at_end = kStart;
  std::size_t position = begin;
  for (;;) {
    const bool more = position < text_.size();
    const Decoded c = more ? decode_at(text_, position) : Decoded{0, 0};
    const std::uint32_t symbol = more ? regex_.class_of(c.code) : regex_.class_count_ - 1;
    const std::uint32_t entry = regex_.table_[state * regex_.class_count_ + symbol];
    if ((entry & 1) != 0) {
      end = position;
      state_at_end = state;
    }
    state = entry >> 1;
    if (state == kDead || !more) break;
    position += c.size;
    if (!failed_.empty() && failed_.contains(key(position, state))) break;
  }
  const std::size_t known = end.value_or(begin);
  if (position - known > kLongLook) remember_failures(known, state_at_end, position);
  return end;
}

// Every (position, state) after `from` on the way that led to no further match.
void RegexSearch::remember_failures(std::size_t from, std::uint32_t state, std::size_t to) {
  for (std::size_t position = from; position < to;) {
    const Decoded c = decode_at(text_, position);
    state = regex_.table_[state * regex_.class_count_ + regex_.class_of(c.code)] >> 1;
    position += c.size;
    failed_.insert(key(position, state));
  }
}

}  // namespace plumb
