// Stop texts, cut into pieces in every way.
#include "engine/stop_text.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

namespace plumb {
namespace {

struct Case {
  std::vector<std::string> stops;
  std::string text;
  std::string shown;
  bool found;
};

const std::vector<Case> kCases = {
    {{"END"}, "one ENDtwo", "one ", true},
    {{"END"}, "one EN", "one EN", false},
    {{"END"}, "EENDx", "E", true},
    {{"aab"}, "aaaab", "aa", true},
    {{"abab"}, "abaabab", "aba", true},
    {{"abc", "b"}, "xabc", "xa", true},  // "b" is complete first
    {{"abc", "bc"}, "xabc", "x", true},  // complete together: the one that began first
    {{"abcd", "bx"}, "abcabx", "abca", true},
    {{"\n\n"}, "a\nb\n\nc", "a\nb", true},
    {{"é"}, "caf\xc3\xa8 caf\xc3\xa9", "caf\xc3\xa8 caf", true},
    {{}, "nothing stops", "nothing stops", false},
};

TEST(StopText, ShowsTheSameHoweverTheTextIsCut) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.text);
    for (std::uint32_t cuts = 0; cuts < (1U << (c.text.size() - 1)) && cuts < 4096; ++cuts) {
      StopText stop(c.stops);
      std::string shown;
      std::string piece;
      for (std::size_t i = 0; i < c.text.size(); ++i) {
        piece += c.text[i];
        if ((cuts >> i & 1U) == 0 && i + 1 < c.text.size()) continue;
        shown += stop.push(piece);
        piece.clear();
        EXPECT_EQ(shown, c.shown.substr(0, shown.size()));
      }
      EXPECT_EQ(stop.found(), c.found);
      shown += stop.finish();
      EXPECT_EQ(shown, c.shown);
    }
  }
}

// Random texts over two letters, against the definition: the shortest prefix that ends with a stop text, without it.
TEST(StopText, AgreesWithItsDefinition) {
  std::mt19937 random(11);
  const auto word = [&](std::size_t length) {
    std::string text(length, 'a');
    for (char& c : text)
      c = (random() & 1U) != 0 ? 'a' : 'b';
    return text;
  };
  for (int round = 0; round < 5000; ++round) {
    std::vector<std::string> stops;
    for (std::size_t i = 0; i <= random() % 3; ++i)
      stops.push_back(word(1 + random() % 6));
    const std::string text = word(random() % 40);
    std::string expected = text;
    for (std::size_t end = 1; end <= text.size() && expected == text; ++end) {
      std::size_t longest = 0;
      for (const std::string& s : stops) {
        if (s.size() <= end && text.compare(end - s.size(), s.size(), s) == 0)
          longest = std::max(longest, s.size());
      }
      if (longest > 0) expected = text.substr(0, end - longest);
    }
    StopText stop(stops);
    std::string shown;
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t length = std::min<std::size_t>(1 + random() % 5, text.size() - i);
      shown += stop.push(text.substr(i, length));
      ASSERT_EQ(shown, expected.substr(0, shown.size())) << text;
      i += length;
    }
    shown += stop.finish();
    ASSERT_EQ(shown, expected) << text;
  }
}

TEST(StopText, IsLinearInTheText) {
  const std::string stop_text(1000, 'a');
  StopText stop({stop_text + "b"});
  std::size_t shown = 0;
  const std::string piece(1 << 20, 'a');
  shown += stop.push(piece).size();
  EXPECT_EQ(shown + stop.finish().size(), piece.size());
}

}  // namespace
}  // namespace plumb
