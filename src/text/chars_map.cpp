// Reading and searching compiled character maps; every step stays inside the array, whatever the file says.
#include "text/chars_map.h"

#include <fmt/format.h>

#include <cstring>

#include "text/utf8.h"

namespace plumb {
namespace {

// A unit of darts-clone: bit 31 value, bits 10-30 offset, bit 9 offset extended, bit 8 has a leaf, bits 0-7 label.
bool has_leaf(std::uint32_t unit) {
  return (unit >> 8 & 1) != 0;
}
std::uint32_t value_of(std::uint32_t unit) {
  return unit & 0x7FFFFFFFU;
}
std::uint32_t label_of(std::uint32_t unit) {
  return unit & 0x800000FFU;
}
std::uint32_t offset_of(std::uint32_t unit) {
  return unit >> 10 << ((unit & 1U << 9) >> 6);
}

}  // namespace

Result<CharsMap> CharsMap::parse(std::string_view blob, std::string_view where) {
  const auto error = [&](std::string_view problem) {
    return Error{ErrorCode::kCorrupt, fmt::format("{} {}", where, problem)};
  };
  std::uint32_t trie_bytes = 0;
  if (blob.size() < sizeof trie_bytes)
    return error(fmt::format("has {} bytes, fewer than its header", blob.size()));
  std::memcpy(&trie_bytes, blob.data(), sizeof trie_bytes);
  blob.remove_prefix(sizeof trie_bytes);
  if (trie_bytes > blob.size() || trie_bytes % sizeof(std::uint32_t) != 0 || trie_bytes == 0) {
    return error(
        fmt::format("claims a table of {} bytes where {} remain", trie_bytes, blob.size()));
  }
  CharsMap map;
  map.units_.resize(trie_bytes / sizeof(std::uint32_t));
  std::memcpy(map.units_.data(), blob.data(), trie_bytes);
  map.replacements_ = blob.substr(trie_bytes);
  if (!is_valid_utf8(map.replacements_)) return error("holds replacements that are not UTF-8");
  return map;
}

std::optional<CharsMap::Match> CharsMap::shortest(std::string_view text) const {
  return search(text, true);
}
std::optional<CharsMap::Match> CharsMap::longest(std::string_view text) const {
  return search(text, false);
}

std::optional<CharsMap::Match> CharsMap::search(std::string_view text, bool stop_at_first) const {
  std::optional<Match> found;
  std::uint32_t node = offset_of(units_.front());
  for (std::size_t i = 0; i < text.size() && text[i] != '\0'; ++i) {
    const auto label = static_cast<unsigned char>(text[i]);
    node ^= label;
    if (node >= units_.size() || label_of(units_[node]) != label) break;
    const std::uint32_t unit = units_[node];
    node ^= offset_of(unit);
    const bool at_boundary =
        i + 1 == text.size() || (static_cast<unsigned char>(text[i + 1]) & 0xC0) != 0x80;
    if (!has_leaf(unit) || !at_boundary) continue;
    if (node >= units_.size()) break;
    const std::uint32_t begin = value_of(units_[node]);
    // A replacement starts at a character and ends before a zero byte.
    const bool inside = begin < replacements_.size() &&
                        (static_cast<unsigned char>(replacements_[begin]) & 0xC0) != 0x80;
    const std::size_t end = inside ? replacements_.find('\0', begin) : std::string::npos;
    if (end == std::string::npos) break;
    found = Match{i + 1, std::string_view(replacements_).substr(begin, end - begin)};
    if (stop_at_first) break;
  }
  return found;
}

}  // namespace plumb
