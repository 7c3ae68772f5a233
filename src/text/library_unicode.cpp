// Older and newer Unicode than ours, by age and by the few characters whose category has changed since. Each set equals the
// package's own for every code point (tests/python compares them).
#include "text/library_unicode.h"

#include <unicode/uchar.h>

#include <string_view>

namespace plumb {
namespace {

icu::UnicodeSet assigned_by(const char* pattern) {
  UErrorCode code = U_ZERO_ERROR;
  icu::UnicodeSet set(icu::UnicodeString::fromUTF8(pattern), code);
  set.freeze();
  return set;
}

CharSet char_set(const icu::UnicodeSet& set) {
  std::vector<CharSet::Range> ranges;
  for (std::int32_t i = 0; i < set.getRangeCount(); ++i) {
    ranges.push_back(
        {static_cast<CodePoint>(set.getRangeStart(i)), static_cast<CodePoint>(set.getRangeEnd(i))});
  }
  return CharSet(std::move(ranges));
}

const CharSet& unicode_8() {
  static const CharSet set = char_set(assigned_by("[:age=8.0:]"));
  return set;
}

CharSet category(std::string_view name) {
  return property_set(name).value_or(CharSet());
}

}  // namespace

const icu::UnicodeSet& normalization_alphabet() {
  static const icu::UnicodeSet set = assigned_by("[:age=9.0:]");
  return set;
}

const CharSet& library_punctuation() {
  static const CharSet set =
      (category("P") & unicode_8()) |
      CharSet(
          {{'!', '/'}, {':', '@'}, {'[', '`'}, {'{', '~'}, {0x166D, 0x166D}, {0x111C9, 0x111C9}});
  return set;
}

const CharSet& library_marks() {
  static const CharSet set =
      (category("M") & char_set(normalization_alphabet()) & ~CharSet::single(0x111C9)) |
      CharSet({{0x1CF2, 0x1CF3}});
  return set;
}

const CharSet& bert_marks() {
  static const CharSet set = (category("Mn") & unicode_8() &
                              ~CharSet({{0x1885, 0x1886}, {0xA9BD, 0xA9BD}, {0x111C9, 0x111C9}})) |
                             CharSet({{0x1734, 0x1734}, {0x1171E, 0x1171E}});
  return set;
}

const CharSet& bert_controls() {
  static const CharSet set = (category("Cc") | category("Cf") | category("Co")) & unicode_8() &
                             ~CharSet({{'\t', '\n'}, {'\r', '\r'}});
  return set;
}

const CharSet& rust_numbers() {
  static const CharSet set = category("N") | CharSet({{0x11DE0, 0x11DE9}, {0x16FF4, 0x16FF6}});
  return set;
}

const CharSet& rust_word() {
  static const CharSet set = (word_set() & ~CharSet({{0xB2, 0xB3}, {0xB9, 0xB9}, {0xBC, 0xBE}})) |
                             CharSet({{0x200C, 0x200D}});
  return set;
}

const CharSet& newly_extending() {
  static const CharSet set(
      {{0x897, 0x897},     {0x1ACF, 0x1ADD},   {0x1AE0, 0x1AEB},   {0x10D69, 0x10D6D},
       {0x10EFA, 0x10EFC}, {0x113B8, 0x113C0}, {0x113C2, 0x113C2}, {0x113C5, 0x113C5},
       {0x113C7, 0x113CA}, {0x113CC, 0x113D0}, {0x113D2, 0x113D2}, {0x113E1, 0x113E2},
       {0x11B60, 0x11B67}, {0x11F5A, 0x11F5A}, {0x1611E, 0x1612F}, {0x1E5EE, 0x1E5EF},
       {0x1E6E3, 0x1E6E3}, {0x1E6E6, 0x1E6E6}, {0x1E6EE, 0x1E6EF}, {0x1E6F5, 0x1E6F5}});
  return set;
}

CodePoint rust_lowercase(CodePoint code) {
  // What Unicode 16 and 17 add to ICU's 15.
  struct Shift {
    CodePoint first;
    CodePoint last;
    CodePoint lower;  // of `first`
  };

  static constexpr Shift kShifts[] = {{0x1C89, 0x1C89, 0x1C8A},    {0xA7CB, 0xA7CB, 0x264},
                                      {0xA7CC, 0xA7CC, 0xA7CD},    {0xA7CE, 0xA7CE, 0xA7CF},
                                      {0xA7D2, 0xA7D2, 0xA7D3},    {0xA7D4, 0xA7D4, 0xA7D5},
                                      {0xA7DA, 0xA7DA, 0xA7DB},    {0xA7DC, 0xA7DC, 0x19B},
                                      {0x10D50, 0x10D65, 0x10D70}, {0x16EA0, 0x16EB8, 0x16EBB}};
  for (const Shift& shift : kShifts) {
    if (code >= shift.first && code <= shift.last) return code - shift.first + shift.lower;
  }
  return static_cast<CodePoint>(u_tolower(static_cast<UChar32>(code)));
}

}  // namespace plumb
