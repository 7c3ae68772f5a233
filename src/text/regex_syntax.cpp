// A recursive-descent parser for patterns (Oniguruma 6.9, doc/RE, Ruby syntax); nesting is limited.
#include "text/regex_syntax.h"

#include <fmt/format.h>

#include <utility>

namespace plumb {
namespace {

using Kind = RegexNode::Kind;

constexpr int kMaxDepth = 50;
constexpr int kMaxRepeat = 1000;

RegexNode make_node(Kind kind) {
  return {kind, {}, false, {}, 0, 0, false};
}

RegexNode make_set(CharSet set) {
  RegexNode node = make_node(Kind::kSet);
  node.set = std::move(set);
  return node;
}

RegexNode make_lookahead(CharSet allowed, bool end_allowed) {
  RegexNode node = make_node(Kind::kLookahead);
  node.set = std::move(allowed);
  node.end_allowed = end_allowed;
  return node;
}

// With the other case of each ASCII letter; s and k also have the long s and the Kelvin sign.
CharSet fold(const CharSet& set) {
  std::vector<CharSet::Range> all = set.ranges();
  const auto add = [&](CodePoint code) { all.push_back({code, code}); };
  for (CodePoint lower = 'a'; lower <= 'z'; ++lower) {
    const CodePoint upper = lower - 'a' + 'A';
    const CodePoint other = lower == 's' ? 0x17F : lower == 'k' ? 0x212A : lower;
    if (!set.contains(lower) && !set.contains(upper) && !set.contains(other)) continue;
    add(lower);
    add(upper);
    add(other);
  }
  return CharSet(std::move(all));
}

class Parser {
 public:
  explicit Parser(std::string_view pattern) : pattern_(pattern) {}

  Result<RegexNode> parse() {
    PLUMB_TRY(RegexNode node, alternatives());
    if (!at_end()) return unsupported("an unmatched )");
    return node;
  }

 private:
  bool at_end() const { return position_ >= pattern_.size(); }
  bool next_is(std::string_view text) const { return pattern_.substr(position_).starts_with(text); }

  bool accept(std::string_view text) {
    if (!next_is(text)) return false;
    position_ += text.size();
    return true;
  }

  CodePoint take() {
    const Decoded next = decode_at(pattern_, position_);
    position_ += next.size;
    return next.code;
  }

  Error unsupported(std::string_view what) const {
    constexpr std::size_t kShown = 120;
    return Error{ErrorCode::kUnsupported,
                 fmt::format("pattern \"{}\"{}, byte {}: {} is not supported",
                             to_valid_utf8(pattern_.substr(0, kShown)),
                             pattern_.size() > kShown ? "..." : "", position_, what)};
  }

  Result<RegexNode> alternatives() {
    if (++depth_ > kMaxDepth) return unsupported(fmt::format("nesting deeper than {}", kMaxDepth));
    RegexNode node = make_node(Kind::kAlternate);
    do {
      PLUMB_TRY(RegexNode branch, sequence());
      node.children.push_back(std::move(branch));
    } while (accept("|"));
    --depth_;
    if (node.children.size() == 1) return RegexNode(std::move(node.children.front()));
    return node;
  }

  Result<RegexNode> sequence() {
    RegexNode node = make_node(Kind::kConcat);
    while (!at_end() && !next_is("|") && !next_is(")")) {
      PLUMB_TRY(RegexNode item, atom());
      PLUMB_TRY(item, repeated(std::move(item)));
      node.children.push_back(std::move(item));
    }
    return node;
  }

  Result<RegexNode> atom() {
    if (next_is("(")) return group();
    if (next_is("[")) {
      PLUMB_TRY(CharSet set, bracket());
      return make_set(std::move(set));
    }
    if (next_is("\\")) {
      PLUMB_TRY(CharSet set, escape());
      return make_set(fold_case_ ? fold(set) : std::move(set));
    }
    if (accept(".")) return make_set(~CharSet::single('\n'));
    if (accept("$")) return make_lookahead(CharSet::single('\n'), true);
    if (next_is("^")) return unsupported("an anchor");
    if (next_is("*") || next_is("+") || next_is("?")) return unsupported("a repeat of nothing");
    return literal(take());
  }

  Result<RegexNode> literal(CodePoint code) {
    if (fold_case_ && code >= 0x80)
      return unsupported("ignoring the case of a letter outside ASCII");
    const CharSet set = CharSet::single(code);
    return make_set(fold_case_ ? fold(set) : set);
  }

  Result<RegexNode> group() {
    const bool outer_fold = fold_case_;
    const bool negative = accept("(?!");
    if (negative || accept("(?=")) {
      PLUMB_TRY(const RegexNode body, alternatives());
      if (!accept(")")) return unsupported("a group without its end");
      return lookahead(body, negative);
    }
    if (accept("(?i:")) {
      fold_case_ = true;
    } else if (!accept("(?:")) {
      accept("(");
      if (next_is("?")) return unsupported("this kind of group");
    }
    PLUMB_TRY(RegexNode body, alternatives());
    fold_case_ = outer_fold;
    if (!accept(")")) return unsupported("a group without its end");
    return body;
  }

  Result<RegexNode> lookahead(const RegexNode& body, bool negative) {
    CharSet set;
    const auto add = [&set](const RegexNode& branch) {
      const RegexNode& item = branch.children.size() == 1 ? branch.children.front() : branch;
      set = set | item.set;
      return item.kind == Kind::kSet;
    };
    bool single = true;
    if (body.kind == Kind::kAlternate) {
      for (const RegexNode& branch : body.children)
        single = add(branch) && single;
    } else {
      single = add(body);
    }
    if (!single) return unsupported("lookahead of more than one character");
    return make_lookahead(negative ? ~set : set, negative);
  }

  Result<RegexNode> repeated(RegexNode item) {
    while (!at_end()) {
      RegexNode node = make_node(Kind::kRepeat);
      const bool interval = next_is("{");
      if (accept("*")) {
        node.maximum = RegexNode::kNoMaximum;
      } else if (accept("+")) {
        node.minimum = 1;
        node.maximum = RegexNode::kNoMaximum;
      } else if (accept("?")) {
        node.maximum = 1;
      } else {
        PLUMB_TRY(const bool is_interval, bounds(node));
        if (!is_interval) return item;
      }
      if (item.kind == Kind::kLookahead) return unsupported("a repeated lookahead");
      const CharSet set = item.set;
      const bool single = item.kind == Kind::kSet;
      node.children.push_back(std::move(item));
      node.lazy = accept("?");
      item = std::move(node);
      // A possessive repeat of one set is a greedy one that its set must not follow. After an
      // interval, Ruby's + is a repeat.
      if (!interval && !item.lazy && accept("+")) {
        if (!single) return unsupported("a possessive repeat of a group");
        RegexNode both = make_node(Kind::kConcat);
        both.children.push_back(std::move(item));
        if (both.children.front().maximum == RegexNode::kNoMaximum) {
          both.children.push_back(make_lookahead(~set, true));
          item = std::move(both);
        } else {
          item = possessive_option(std::move(both.children.front()), set);
        }
      }
    }
    return item;
  }

  static RegexNode possessive_option(RegexNode option, const CharSet& set) {
    RegexNode node = make_node(Kind::kAlternate);
    node.children.push_back(std::move(option.children.front()));
    node.children.push_back(make_lookahead(~set, true));
    return node;
  }

  // {n}, {n,}, {n,m} or {,m} into `node`; false when the brace is a plain character.
  Result<bool> bounds(RegexNode& node) {
    const std::size_t begin = position_;
    if (!accept("{")) return false;
    const std::optional<int> low = number();
    const bool comma = accept(",");
    const std::optional<int> high = comma ? number() : low;
    if (!accept("}") || (!low && !high)) {
      position_ = begin;
      return false;
    }
    node.minimum = low.value_or(0);
    node.maximum = high.value_or(RegexNode::kNoMaximum);
    const bool ordered = node.maximum == RegexNode::kNoMaximum || node.minimum <= node.maximum;
    if (node.minimum > kMaxRepeat || node.maximum > kMaxRepeat || !ordered) {
      return unsupported(fmt::format("a repeat outside 0 to {}", kMaxRepeat));
    }
    return true;
  }

  std::optional<int> number() {
    std::optional<int> value;
    while (!at_end() && pattern_[position_] >= '0' && pattern_[position_] <= '9') {
      value = std::min(value.value_or(0) * 10 + (pattern_[position_] - '0'), kMaxRepeat + 1);
      ++position_;
    }
    return value;
  }

  // [...] with ranges, nested sets and intersections (&&).
  Result<CharSet> bracket() {
    if (++depth_ > kMaxDepth) return unsupported(fmt::format("nesting deeper than {}", kMaxDepth));
    accept("[");
    const bool negated = accept("^");
    std::optional<CharSet> left_of_and;
    std::vector<CharSet::Range> ranges;
    bool empty = true;
    while (!next_is("]") || empty) {
      if (at_end()) return unsupported("a set without its end");
      if (next_is("]")) return unsupported("an empty set");
      if (accept("&&")) {
        const CharSet side(std::exchange(ranges, {}));
        left_of_and = left_of_and ? *left_of_and & side : side;
        continue;
      }
      empty = false;
      PLUMB_TRY_STATUS(bracket_item(ranges));
    }
    accept("]");
    --depth_;
    CharSet set(std::move(ranges));
    if (left_of_and) set = *left_of_and & set;
    if (fold_case_) set = fold(set);
    return negated ? ~set : set;
  }

  Status bracket_item(std::vector<CharSet::Range>& ranges) {
    const auto add = [&ranges](const CharSet& set) {
      ranges.insert(ranges.end(), set.ranges().begin(), set.ranges().end());
    };
    if (next_is("[:")) return unsupported("a POSIX bracket");
    if (next_is("[")) {
      PLUMB_TRY(const CharSet nested, bracket());
      add(nested);
      return {};
    }
    PLUMB_TRY(const CharSet first, bracket_atom());
    const bool range = next_is("-") && !next_is("-]") && is_single(first);
    if (!range) {
      add(first);
      return {};
    }
    accept("-");
    if (at_end() || next_is("[")) return unsupported("a range without its end");
    PLUMB_TRY(const CharSet last, bracket_atom());
    const CodePoint low = first.ranges().front().first;
    if (!is_single(last) || last.ranges().front().first < low) return unsupported("this range");
    ranges.push_back({low, last.ranges().front().first});
    return {};
  }

  static bool is_single(const CharSet& set) {
    return set.ranges().size() == 1 && set.ranges().front().first == set.ranges().front().last;
  }

  Result<CharSet> bracket_atom() {
    if (next_is("\\")) return escape();
    const CodePoint code = take();
    if (fold_case_ && code >= 0x80)
      return unsupported("ignoring the case of a letter outside ASCII");
    return CharSet::single(code);
  }

  Result<CharSet> escape() {
    accept("\\");
    if (at_end()) return unsupported("a backslash at the end");
    const CodePoint code = take();
    switch (code) {
      case 'n':
        return CharSet::single('\n');
      case 'r':
        return CharSet::single('\r');
      case 't':
        return CharSet::single('\t');
      case 'f':
        return CharSet::single('\f');
      case 'v':
        return CharSet::single('\v');
      case 's':
        return space_set();
      case 'S':
        return ~space_set();
      case 'd':
        return digit_set();
      case 'D':
        return ~digit_set();
      case 'w':
        return word_set();
      case 'W':
        return ~word_set();
      case 'p':
        return property(false);
      case 'P':
        return property(true);
      case 'x':
        return hexadecimal(accept("{"), 2);
      case 'u':
        return hexadecimal(false, 4);
      default:
        break;
    }
    const bool is_word = code < 0x80 && word_set().contains(code);
    if (is_word && code != '_')
      return unsupported(fmt::format("the escape \\{}", static_cast<char>(code)));
    return CharSet::single(code);
  }

  Result<CharSet> property(bool negated) {
    if (fold_case_) return unsupported("ignoring the case of a property");
    if (!accept("{")) return unsupported("a property without braces");
    if (accept("^")) negated = !negated;
    const std::size_t end = pattern_.find('}', position_);
    if (end == std::string_view::npos) return unsupported("a property without its end");
    const std::optional<CharSet> set = property_set(pattern_.substr(position_, end - position_));
    if (!set) return unsupported("this property");
    position_ = end + 1;
    return negated ? ~*set : *set;
  }

  Result<CharSet> hexadecimal(bool braces, int max_digits) {
    CodePoint code = 0;
    int digits = 0;
    for (; !at_end() && digits < (braces ? 8 : max_digits); ++digits, ++position_) {
      const char c = pattern_[position_];
      const char lower = static_cast<char>(c | 0x20);
      if (c >= '0' && c <= '9') {
        code = code * 16 + static_cast<CodePoint>(c - '0');
      } else if (lower >= 'a' && lower <= 'f') {
        code = code * 16 + static_cast<CodePoint>(lower - 'a' + 10);
      } else {
        break;
      }
    }
    const bool ended = braces ? accept("}") : (max_digits == 2 || digits == max_digits);
    if (digits == 0 || !ended || code > kLastCodePoint) return unsupported("this character code");
    return CharSet::single(code);
  }

  std::string_view pattern_;
  std::size_t position_ = 0;
  int depth_ = 0;
  bool fold_case_ = false;
};

}  // namespace

Result<RegexNode> parse_regex(std::string_view pattern) {
  if (!is_valid_utf8(pattern)) return Error{ErrorCode::kCorrupt, "a pattern is not UTF-8"};
  return Parser(pattern).parse();
}

}  // namespace plumb
