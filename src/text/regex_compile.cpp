// From a parsed pattern to a program of instructions (K. Thompson, 1968), to character classes, to
// the table of a deterministic automaton whose states are instruction lists in order of preference
// (R. Cox, "Regular Expression Matching in the Wild", 2010). All sizes are limited, because
// patterns come from files.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "text/regex.h"
#include "text/regex_syntax.h"

namespace plumb {
namespace {

enum class Op : unsigned char { kSet, kAssert, kSplit, kJump, kMatch };

struct Instruction {
  Op op;
  std::uint32_t set;     // kSet, kAssert
  bool end_allowed;      // kAssert
  std::uint32_t first;   // kSplit: preferred; kJump
  std::uint32_t second;  // kSplit
};

constexpr std::size_t kMaxInstructions = 20'000;
constexpr std::size_t kMaxSets = 256;
constexpr std::size_t kMaxClasses = 255;  // one more is the end of the text
constexpr std::size_t kMaxTable = 4'000'000;
constexpr std::int64_t kMaxSteps = 20'000'000;

struct Program {
  std::vector<Instruction> code;
  std::vector<CharSet> sets;
};

// Writes the instructions of a node one after the other. Depth is limited by the parser.
class ProgramWriter {
 public:
  // False when a limit is passed.
  bool write(const RegexNode& node) {
    switch (node.kind) {
      case RegexNode::Kind::kSet:
        return emit({Op::kSet, set_index(node.set), false, 0, 0});
      case RegexNode::Kind::kLookahead:
        return emit({Op::kAssert, set_index(node.set), node.end_allowed, 0, 0});
      case RegexNode::Kind::kConcat:
        return std::all_of(node.children.begin(), node.children.end(),
                           [&](const RegexNode& child) { return write(child); });
      case RegexNode::Kind::kAlternate:
        return alternate(node);
      case RegexNode::Kind::kRepeat:
        return repeat(node);
    }
    return false;
  }

  bool finish() { return emit({Op::kMatch, 0, false, 0, 0}) && program_.sets.size() <= kMaxSets; }
  Program take() { return std::move(program_); }

 private:
  std::uint32_t here() const { return static_cast<std::uint32_t>(program_.code.size()); }

  bool emit(const Instruction& instruction) {
    program_.code.push_back(instruction);
    return program_.code.size() <= kMaxInstructions;
  }

  std::uint32_t set_index(const CharSet& set) {
    const auto same = [&set](const CharSet& other) {
      return std::equal(set.ranges().begin(), set.ranges().end(), other.ranges().begin(),
                        other.ranges().end(), [](const CharSet::Range& a, const CharSet::Range& b) {
                          return a.first == b.first && a.last == b.last;
                        });
    };
    const auto found = std::find_if(program_.sets.begin(), program_.sets.end(), same);
    const auto index = static_cast<std::uint32_t>(found - program_.sets.begin());
    if (found == program_.sets.end() && index <= kMaxSets) program_.sets.push_back(set);
    return index;
  }

  bool alternate(const RegexNode& node) {
    std::vector<std::uint32_t> jumps;
    for (std::size_t i = 0; i < node.children.size(); ++i) {
      const bool last = i + 1 == node.children.size();
      const std::uint32_t split = here();
      if (!last && !emit({Op::kSplit, 0, false, split + 1, 0})) return false;
      if (!write(node.children[i])) return false;
      if (last) break;
      jumps.push_back(here());
      if (!emit({Op::kJump, 0, false, 0, 0})) return false;
      program_.code[split].second = here();
    }
    for (const std::uint32_t jump : jumps)
      program_.code[jump].first = here();
    return true;
  }

  bool repeat(const RegexNode& node) {
    const RegexNode& body = node.children.front();
    for (int i = 0; i < node.minimum; ++i) {
      if (!write(body)) return false;
    }
    if (node.maximum == RegexNode::kNoMaximum) {
      const std::uint32_t split = here();
      if (!emit({Op::kSplit, 0, false, 0, 0}) || !write(body)) return false;
      if (!emit({Op::kJump, 0, false, split, 0})) return false;
      set_split(split, node.lazy);
      return true;
    }
    std::vector<std::uint32_t> splits;
    for (int i = node.minimum; i < node.maximum; ++i) {
      splits.push_back(here());
      if (!emit({Op::kSplit, 0, false, 0, 0}) || !write(body)) return false;
    }
    for (const std::uint32_t split : splits)
      set_split(split, node.lazy);
    return true;
  }

  void set_split(std::uint32_t split, bool lazy) {
    Instruction& instruction = program_.code[split];
    instruction.first = lazy ? here() : split + 1;
    instruction.second = lazy ? split + 1 : here();
  }

  Program program_;
};

}  // namespace

// Builds the classes, then the table.
class RegexCompiler {
 public:
  explicit RegexCompiler(Program program)
      : program_(std::move(program)), mark_(program_.code.size(), 0) {}

  // False when a limit is passed.
  bool build() { return build_classes() && build_table(); }
  Regex take() { return std::move(regex_); }

 private:
  // Characters in the same sets share a class.
  bool build_classes() {
    std::vector<CodePoint> bounds = {0, kLastCodePoint + 1};
    for (const CharSet& set : program_.sets) {
      for (const CharSet::Range& range : set.ranges()) {
        bounds.push_back(range.first);
        bounds.push_back(range.last + 1);
      }
    }
    std::sort(bounds.begin(), bounds.end());
    bounds.erase(std::unique(bounds.begin(), bounds.end()), bounds.end());
    std::map<std::vector<bool>, std::uint8_t> classes;
    std::vector<std::uint8_t> class_of(kLastCodePoint + 1);
    for (std::size_t i = 0; i + 1 < bounds.size(); ++i) {
      std::vector<bool> members(program_.sets.size());
      for (std::size_t s = 0; s < members.size(); ++s) {
        members[s] = program_.sets[s].contains(bounds[i]);
      }
      const auto found =
          classes.emplace(std::move(members), static_cast<std::uint8_t>(classes.size()));
      if (classes.size() > kMaxClasses) return false;
      std::fill(class_of.begin() + bounds[i], class_of.begin() + bounds[i + 1],
                found.first->second);
    }
    regex_.class_count_ = static_cast<std::uint32_t>(classes.size()) + 1;
    members_.resize(classes.size());
    for (const auto& [members, index] : classes)
      members_[index] = members;
    pack_pages(class_of);
    return true;
  }

  void pack_pages(const std::vector<std::uint8_t>& class_of) {
    std::map<std::vector<std::uint8_t>, std::uint16_t> pages;
    constexpr auto kSize = static_cast<std::ptrdiff_t>(Regex::kPageSize);
    for (std::size_t i = 0; i < regex_.page_of_.size(); ++i) {
      const auto begin = class_of.begin() + static_cast<std::ptrdiff_t>(i) * kSize;
      const auto found = pages.emplace(std::vector<std::uint8_t>(begin, begin + kSize),
                                       static_cast<std::uint16_t>(pages.size()));
      regex_.page_of_[i] = found.first->second;
      if (found.second) regex_.class_pages_.insert(regex_.class_pages_.end(), begin, begin + kSize);
    }
  }

  bool build_table() {
    state_of({});   // dead
    state_of({0});  // start
    for (std::uint32_t state = 0; state < states_.size(); ++state) {
      for (std::uint32_t symbol = 0; symbol < regex_.class_count_; ++symbol) {
        bool matched = false;
        std::vector<std::uint32_t> next = step(states_[state], symbol, matched);
        regex_.table_.push_back(state_of(std::move(next)) << 1 | (matched ? 1U : 0U));
        if (steps_ > kMaxSteps) return false;
      }
      if (states_.size() * regex_.class_count_ > kMaxTable) return false;
    }
    return true;
  }

  std::uint32_t state_of(std::vector<std::uint32_t> list) {
    const auto found = index_.emplace(std::move(list), static_cast<std::uint32_t>(states_.size()));
    if (found.second) states_.push_back(found.first->first);
    return found.first->second;
  }

  bool is_member(std::uint32_t set, std::uint32_t symbol) const {
    return symbol + 1 < regex_.class_count_ && members_[symbol][set];
  }

  // Follows what consumes nothing, in order of preference; a match cuts off all that is less
  // preferred.
  std::vector<std::uint32_t> step(const std::vector<std::uint32_t>& list, std::uint32_t symbol,
                                  bool& matched) {
    ++generation_;
    const bool at_end = symbol + 1 == regex_.class_count_;
    std::vector<std::uint32_t> next;
    std::vector<std::uint32_t> stack(list.rbegin(), list.rend());
    while (!stack.empty() && !matched) {
      const std::uint32_t pc = stack.back();
      stack.pop_back();
      ++steps_;
      if (std::exchange(mark_[pc], generation_) == generation_) continue;
      const Instruction& instruction = program_.code[pc];
      switch (instruction.op) {
        case Op::kMatch:
          matched = true;
          break;
        case Op::kJump:
          stack.push_back(instruction.first);
          break;
        case Op::kSplit:
          stack.push_back(instruction.second);
          stack.push_back(instruction.first);
          break;
        case Op::kAssert:
          if (at_end ? instruction.end_allowed : is_member(instruction.set, symbol))
            stack.push_back(pc + 1);
          break;
        case Op::kSet:
          if (is_member(instruction.set, symbol)) next.push_back(pc + 1);
          break;
      }
    }
    return next;
  }

  Program program_;
  Regex regex_;
  std::vector<std::vector<bool>> members_;  // [class][set]
  std::map<std::vector<std::uint32_t>, std::uint32_t> index_;
  std::vector<std::vector<std::uint32_t>> states_;
  std::vector<std::uint32_t> mark_;  // generation in which an instruction was seen
  std::uint32_t generation_ = 0;
  std::int64_t steps_ = 0;
};

Result<Regex> Regex::compile(std::string_view pattern) {
  PLUMB_TRY(const RegexNode root, parse_regex(pattern));
  ProgramWriter writer;
  bool within_limits = writer.write(root) && writer.finish();
  if (within_limits) {
    RegexCompiler compiler(writer.take());
    within_limits = compiler.build();
    if (within_limits) return compiler.take();
  }
  return Error{ErrorCode::kUnsupported,
               fmt::format("pattern \"{}\" is too large for a table", pattern.substr(0, 120))};
}

}  // namespace plumb
