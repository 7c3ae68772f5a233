// Patterns: what they match, that they stay linear, and what is refused.
#include "text/regex.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

namespace plumb {
namespace {

using Words = std::vector<std::string>;

Words matches(const std::string& pattern, const std::string& text) {
  const Result<Regex> regex = Regex::compile(pattern);
  EXPECT_TRUE(regex.ok()) << regex.error().message;
  Words words;
  RegexSearch search(regex.value(), text);
  while (const auto match = search.next())
    words.push_back(text.substr(match->begin, match->end - match->begin));
  return words;
}

TEST(Regex, PrefersTheFirstAlternativeAndTheLongestRepeat) {
  EXPECT_EQ(matches("a|ab", "abab"), (Words{"a", "a"}));
  EXPECT_EQ(matches("ab|a", "abaab"), (Words{"ab", "a", "ab"}));
  EXPECT_EQ(matches("a+?b?", "aab"), (Words{"a", "ab"}));
  EXPECT_EQ(matches("[a-c]{2,3}", "abcabca"), (Words{"abc", "abc"}));
  EXPECT_EQ(matches("(?:ab){2}|a", "ababab"), (Words{"abab", "a"}));
  EXPECT_EQ(matches("x{,2}y", "xxxy"), (Words{"xxy"}));
}

TEST(Regex, LooksOneCharacterAhead) {
  EXPECT_EQ(matches(R"(\s+(?!\S)|\s+)", "a   b  "), (Words{"  ", " ", "  "}));
  EXPECT_EQ(matches(R"(a(?=b|c))", "abacad"), (Words{"a", "a"}));
  EXPECT_EQ(matches(R"(\s+$)", "a \n b  "), (Words{" ", "  "}));
  EXPECT_EQ(matches(R"(a++b|.)", "aaab"), (Words{"aaab"}));
  EXPECT_EQ(matches(R"(a++ab|.)", "aab"), (Words{"a", "a", "b"}));
}

TEST(Regex, ReadsSets) {
  EXPECT_EQ(matches(R"([^\s\p{L}]+)", "ab12 c3"), (Words{"12", "3"}));
  EXPECT_EQ(matches(R"([\p{L}&&[^a-c]]+)", "abcdef"), (Words{"def"}));
  EXPECT_EQ(matches(R"([a\-z]+)", "a-zb"), (Words{"a-z"}));
  EXPECT_EQ(matches(R"([\x{4E00}-\x{9FA5}]+)", "a日本b"), (Words{"日本"}));
  EXPECT_EQ(matches(R"((?i:'s|'ll))", "'S'Ll'\u017F's"), (Words{"'S", "'Ll", "'\u017F", "'s"}));
}

TEST(Regex, PassesOverEmptyMatchesThatTouchTheLast) {
  EXPECT_EQ(matches("a*", "baac"), (Words{"", "aa", ""}));
  EXPECT_EQ(matches("", "ab"), (Words{"", "", ""}));
}

TEST(Regex, RefusesWhatItCannotMatchInOnePass) {
  for (const char* const pattern : {R"((a)\1)", "(?<=a)b", "(?!ab)c", "^a", R"(\bab)", "(?>a+)b",
                                    "a**)", "(", "[a", "[]", R"(\p{Nonsense})", "*a", "(?i:é)",
                                    "a{2000}", "[[:alpha:]]", "\\", R"(\x{110000})", "\xFF"}) {
    EXPECT_FALSE(Regex::compile(pattern).ok()) << pattern;
  }
  EXPECT_FALSE(Regex::compile(std::string(100'000, '(')).ok());
  EXPECT_FALSE(Regex::compile(std::string(100'000, '[')).ok());
  EXPECT_FALSE(Regex::compile("(?:(?:a{1000}){1000}){1000}").ok());
  EXPECT_FALSE(Regex::compile("(?:a|b)*a(?:a|b){30}").ok());
}

// Each of these makes a matcher that starts afresh at every position look to the end of the text
// each time.
TEST(Regex, StaysLinearWhereEveryPositionLooksFarAhead) {
  const std::pair<const char*, std::string> kInputs[] = {
      {"a|a*b", std::string(400'000, 'a')},
      {R"(\s+$)", std::string(400'000, ' ') + "x"},
      {"a*b", std::string(400'000, 'a')},
  };
  for (const auto& [pattern, text] : kInputs) {
    const Result<Regex> regex = Regex::compile(pattern);
    ASSERT_TRUE(regex.ok());
    const auto begin = std::chrono::steady_clock::now();
    RegexSearch search(regex.value(), text);
    while (search.next()) {
    }
    // Quadratic, this is 8e10 steps.
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10)) << pattern;
  }
}

}  // namespace
}  // namespace plumb
