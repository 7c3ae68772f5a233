// Code point sets and Unicode 16 properties; the categories are in a table that
// tools/make_unicode_categories.py writes.
#include "text/unicode.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>

namespace plumb {
namespace {

constexpr std::uint32_t kCategoryRuns[] = {
#include "text/unicode_categories.inc"
};

constexpr std::array<std::string_view, 30> kCategoryNames = {
    "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe",
    "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co", "Cn"};

// The code points whose category's name starts with `name`.
CharSet category_set(std::string_view name) {
  std::vector<CharSet::Range> ranges;
  const std::size_t count = std::size(kCategoryRuns);
  for (std::size_t i = 0; i < count; ++i) {
    if (!kCategoryNames[kCategoryRuns[i] & 31].starts_with(name)) continue;
    const CodePoint first = kCategoryRuns[i] >> 5;
    const CodePoint last = i + 1 < count ? (kCategoryRuns[i + 1] >> 5) - 1 : kLastCodePoint;
    ranges.push_back({first, last});
  }
  return CharSet(std::move(ranges));
}

}  // namespace

CharSet::CharSet(std::vector<Range> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const Range& a, const Range& b) { return a.first < b.first; });
  for (const Range& range : ranges) {
    if (!ranges_.empty() && range.first <= ranges_.back().last + 1) {
      ranges_.back().last = std::max(ranges_.back().last, range.last);
    } else {
      ranges_.push_back(range);
    }
  }
}

bool CharSet::contains(CodePoint code) const {
  const auto after =
      std::upper_bound(ranges_.begin(), ranges_.end(), code,
                       [](CodePoint c, const Range& range) { return c < range.first; });
  return after != ranges_.begin() && code <= std::prev(after)->last;
}

CharSet CharSet::operator|(const CharSet& other) const {
  std::vector<Range> all = ranges_;
  all.insert(all.end(), other.ranges_.begin(), other.ranges_.end());
  return CharSet(std::move(all));
}

CharSet CharSet::operator&(const CharSet& other) const {
  return ~(~*this | ~other);
}

CharSet CharSet::operator~() const {
  CharSet out;
  CodePoint next = 0;
  for (const Range& range : ranges_) {
    if (range.first > next) out.ranges_.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kLastCodePoint) out.ranges_.push_back({next, kLastCodePoint});
  return out;
}

std::string pattern_of(const CharSet& set) {
  std::string pattern = "[";
  for (const CharSet::Range& range : set.ranges()) {
    fmt::format_to(std::back_inserter(pattern), "\\x{{{:X}}}-\\x{{{:X}}}",
                   static_cast<std::uint32_t>(range.first), static_cast<std::uint32_t>(range.last));
  }
  return pattern + "]";
}

namespace {

// Scripts.txt of Unicode 16, script Han.
const CharSet& han_set() {
  static const CharSet set(
      {{0x2E80, 0x2E99},   {0x2E9B, 0x2EF3},   {0x2F00, 0x2FD5},   {0x3005, 0x3005},
       {0x3007, 0x3007},   {0x3021, 0x3029},   {0x3038, 0x303B},   {0x3400, 0x4DBF},
       {0x4E00, 0x9FFF},   {0xF900, 0xFA6D},   {0xFA70, 0xFAD9},   {0x16FE2, 0x16FE3},
       {0x16FF0, 0x16FF1}, {0x20000, 0x2A6DF}, {0x2A700, 0x2B739}, {0x2B740, 0x2B81D},
       {0x2B820, 0x2CEA1}, {0x2CEB0, 0x2EBE0}, {0x2EBF0, 0x2EE5D}, {0x2F800, 0x2FA1D},
       {0x30000, 0x3134A}, {0x31350, 0x323AF}});
  return set;
}

}  // namespace

std::optional<CharSet> property_set(std::string_view name) {
  const bool is_group =
      name.size() == 1 && std::string_view("LMNPSZC").find(name) != std::string_view::npos;
  if (is_group ||
      std::find(kCategoryNames.begin(), kCategoryNames.end(), name) != kCategoryNames.end()) {
    return category_set(name);
  }
  if (name == "Han") return han_set();
  return std::nullopt;
}

const CharSet& space_set() {
  static const CharSet set({{0x09, 0x0D},
                            {0x20, 0x20},
                            {0x85, 0x85},
                            {0xA0, 0xA0},
                            {0x1680, 0x1680},
                            {0x2000, 0x200A},
                            {0x2028, 0x2029},
                            {0x202F, 0x202F},
                            {0x205F, 0x205F},
                            {0x3000, 0x3000}});
  return set;
}

const CharSet& digit_set() {
  static const CharSet set = category_set("Nd");
  return set;
}

const CharSet& word_set() {
  // Oniguruma adds the numbers of Latin-1 and the circled and squared letters (Other_Alphabetic) to
  // L, M, Nd, Nl and Pc.
  static const CharSet set = category_set("L") | category_set("M") | category_set("Nd") |
                             category_set("Nl") | category_set("Pc") |
                             CharSet({{0xB2, 0xB3},
                                      {0xB9, 0xB9},
                                      {0xBC, 0xBE},
                                      {0x24B6, 0x24E9},
                                      {0x1F130, 0x1F149},
                                      {0x1F150, 0x1F169},
                                      {0x1F170, 0x1F189}});
  return set;
}

}  // namespace plumb
