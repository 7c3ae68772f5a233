// Pre-tokenizers of tokenizer.json (`tokenizers` 0.23, src/pre_tokenizers and
// NormalizedString::split).
#include "text/pre_tokenizer.h"

#include <fmt/format.h>

#include <utility>

#include "io/gguf/pre_tokenizers.h"
#include "text/byte_level.h"
#include "text/library_unicode.h"
#include "text/split_pattern.h"

namespace plumb {
namespace {

enum class Behavior : unsigned char {
  kRemoved,
  kIsolated,
  kMergedWithPrevious,
  kMergedWithNext,
  kContiguous
};

// Cuts each piece at the matches of a pattern.
class Split : public PreTokenizer {
 public:
  Split(SplitPattern pattern, Behavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

  void apply(Pieces& pieces) const override {
    std::vector<std::size_t> ends;
    std::string kept;  // the text without what is removed
    bool removed_start = false;
    Cutter cutter(behavior_);
    pieces.for_each([&](std::string_view piece, std::size_t begin) {
      cutter.restart();
      pattern_.split(piece,
                     [&](Span span, bool is_match) { cutter.add(span, is_match != invert_); });
      for (const Cutter::Part& part : cutter.parts()) {
        if (behavior_ != Behavior::kRemoved) {
          ends.push_back(begin + part.span.end);
        } else if (!part.is_match) {
          if (ends.empty() && begin + part.span.begin > 0) removed_start = true;
          kept.append(piece.substr(part.span.begin, part.span.end - part.span.begin));
          ends.push_back(kept.size());
        }
      }
    });
    if (behavior_ == Behavior::kRemoved) pieces.text = std::move(kept);
    if (removed_start) pieces.starts_input = false;
    pieces.ends = std::move(ends);
  }

 private:
  // Joins matches and what lies between them as the behavior says.
  class Cutter {
   public:
    struct Part {
      Span span;
      bool is_match;
    };

    explicit Cutter(Behavior behavior) : behavior_(behavior) {}

    void restart() {
      previous_match_ = false;
      parts_.clear();
    }

    void add(Span span, bool is_match) {
      if (span.begin == span.end) return;
      const bool join = !parts_.empty() && joins(is_match);
      previous_match_ = is_match;
      if (join) {
        parts_.back().span.end = span.end;
        parts_.back().is_match = is_match;
      } else {
        parts_.push_back({span, is_match});
      }
    }

    const std::vector<Part>& parts() const { return parts_; }

   private:
    bool joins(bool is_match) const {
      switch (behavior_) {
        case Behavior::kContiguous:
          return is_match == previous_match_;
        case Behavior::kMergedWithPrevious:
          return is_match && !previous_match_;
        case Behavior::kMergedWithNext:
          return !is_match && previous_match_;
        case Behavior::kRemoved:
        case Behavior::kIsolated:
          return false;
      }
      return false;
    }

    Behavior behavior_;
    bool previous_match_ = false;
    std::vector<Part> parts_;
  };

  SplitPattern pattern_;
  Behavior behavior_;
  bool invert_;
};

// Puts `prefix` before each piece, or before the first of the input only, unless the piece starts
// with it.
class PrependTo : public PreTokenizer {
 public:
  PrependTo(std::string_view prefix, bool only_first) : prefix_(prefix), only_first_(only_first) {}

  void apply(Pieces& pieces) const override {
    std::string text;
    std::vector<std::size_t> ends;
    pieces.for_each([&](std::string_view piece, std::size_t begin) {
      const bool wanted = !only_first_ || (begin == 0 && pieces.starts_input);
      if (wanted && !piece.starts_with(prefix_)) text.append(prefix_);
      text.append(piece);
      ends.push_back(text.size());
    });
    pieces.text = std::move(text);
    pieces.ends = std::move(ends);
  }

 private:
  std::string prefix_;
  bool only_first_;
};

// Spells each byte by its character of the byte alphabet.
class ToByteAlphabet : public PreTokenizer {
 public:
  void apply(Pieces& pieces) const override {
    std::string text;
    text.reserve(pieces.text.size() + pieces.text.size() / 4);
    std::vector<std::size_t> ends;
    ends.reserve(pieces.ends.size());
    pieces.for_each([&](std::string_view piece, std::size_t) {
      ByteAlphabet::get().append_encoded(text, piece);
      ends.push_back(text.size());
    });
    pieces.text = std::move(text);
    pieces.ends = std::move(ends);
  }
};

class ReplaceIn : public PreTokenizer {
 public:
  ReplaceIn(SplitPattern pattern, std::string_view content)
      : pattern_(std::move(pattern)), content_(content) {}

  void apply(Pieces& pieces) const override {
    std::string text;
    std::vector<std::size_t> ends;
    pieces.for_each([&](std::string_view piece, std::size_t) {
      text.append(pattern_.replace(piece, content_));
      ends.push_back(text.size());
    });
    pieces.text = std::move(text);
    pieces.ends = std::move(ends);
  }

 private:
  SplitPattern pattern_;
  std::string content_;
};

class Sequence : public PreTokenizer {
 public:
  explicit Sequence(std::vector<PreTokenizerPtr> parts) : parts_(std::move(parts)) {}

  void apply(Pieces& pieces) const override {
    for (const PreTokenizerPtr& part : parts_)
      part->apply(pieces);
  }

 private:
  std::vector<PreTokenizerPtr> parts_;
};

PreTokenizerPtr in_sequence(std::vector<PreTokenizerPtr> parts) {
  return std::make_unique<Sequence>(std::move(parts));
}

Result<PreTokenizerPtr> split_by(std::string_view pattern, Behavior behavior, bool invert) {
  PLUMB_TRY(SplitPattern compiled, SplitPattern::regex(pattern));
  return PreTokenizerPtr(std::make_unique<Split>(std::move(compiled), behavior, invert));
}

Result<Behavior> read_behavior(const Json& json, std::string_view name) {
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  return Error{ErrorCode::kUnsupported,
               fmt::format("{} has the unknown behavior \"{}\"", json.where(), name)};
}

Result<PreTokenizerPtr> read_split(const Json& json) {
  PLUMB_TRY(SplitPattern pattern, SplitPattern::read(json));
  PLUMB_TRY(const std::string_view name, json.string_at("behavior"));
  PLUMB_TRY(const Behavior behavior, read_behavior(json, name));
  PLUMB_TRY(const bool invert, json.flag("invert", false));
  return PreTokenizerPtr(std::make_unique<Split>(std::move(pattern), behavior, invert));
}

Result<PreTokenizerPtr> read_byte_level(const Json& json) {
  PLUMB_TRY(const bool add_prefix_space, json.flag("add_prefix_space", true));
  PLUMB_TRY(const bool use_regex, json.flag("use_regex", true));
  std::vector<PreTokenizerPtr> parts;
  if (add_prefix_space) parts.push_back(std::make_unique<PrependTo>(" ", false));
  if (use_regex) {
    PLUMB_TRY(PreTokenizerPtr split, split_by(kGpt2Pattern, Behavior::kIsolated, false));
    parts.push_back(std::move(split));
  }
  parts.push_back(std::make_unique<ToByteAlphabet>());
  return in_sequence(std::move(parts));
}

Result<PreTokenizerPtr> read_metaspace(const Json& json) {
  PLUMB_TRY(const std::string_view replacement, json.string_at("replacement"));
  if (replacement.empty()) return json.error("has an empty replacement");
  PLUMB_TRY(const std::optional<std::string_view> written, json.find_string("prepend_scheme"));
  PLUMB_TRY(const bool add_prefix_space, json.flag("add_prefix_space", true));
  const std::string_view scheme = written.value_or(add_prefix_space ? "always" : "never");
  PLUMB_TRY(const bool split, json.flag("split", true));
  std::vector<PreTokenizerPtr> parts;
  parts.push_back(std::make_unique<ReplaceIn>(SplitPattern::literal(" "), replacement));
  if (scheme == "first" || scheme == "always") {
    parts.push_back(std::make_unique<PrependTo>(replacement, scheme == "first"));
  } else if (scheme != "never") {
    return Error{ErrorCode::kUnsupported,
                 fmt::format("{} has the unknown prepend_scheme \"{}\"", json.where(), scheme)};
  }
  if (split) {
    parts.push_back(std::make_unique<Split>(SplitPattern::literal(replacement),
                                            Behavior::kMergedWithNext, false));
  }
  return in_sequence(std::move(parts));
}

Result<PreTokenizerPtr> read_sequence(const Json& json) {
  PLUMB_TRY(const Json list, json.at("pretokenizers"));
  PLUMB_TRY(const simdjson::dom::array items, list.array());
  std::vector<PreTokenizerPtr> parts;
  for (const simdjson::dom::element element : items) {
    PLUMB_TRY(PreTokenizerPtr part, read_pre_tokenizer(list.item(element, parts.size())));
    parts.push_back(std::move(part));
  }
  return in_sequence(std::move(parts));
}

Result<PreTokenizerPtr> read_punctuation(const Json& json) {
  PLUMB_TRY(const std::optional<std::string_view> name, json.find_string("behavior"));
  PLUMB_TRY(const Behavior behavior, read_behavior(json, name.value_or("Isolated")));
  return split_by(pattern_of(library_punctuation()), behavior, false);
}

Result<PreTokenizerPtr> read_digits(const Json& json) {
  PLUMB_TRY(const bool individual, json.flag("individual_digits", false));
  return split_by(pattern_of(rust_numbers()),
                  individual ? Behavior::kIsolated : Behavior::kContiguous, false);
}

// Words and runs of other characters; spaces go.
Result<PreTokenizerPtr> read_whitespace() {
  const std::string words =
      pattern_of(rust_word()) + "+|" + pattern_of(~(rust_word() | space_set())) + "+";
  return split_by(words, Behavior::kRemoved, true);
}

}  // namespace

Result<PreTokenizerPtr> make_bert_pre_tokenizer() {
  std::vector<PreTokenizerPtr> parts;
  PLUMB_TRY(PreTokenizerPtr spaces, split_by(R"(\s)", Behavior::kRemoved, false));
  parts.push_back(std::move(spaces));
  PLUMB_TRY(PreTokenizerPtr marks,
            split_by(pattern_of(library_punctuation()), Behavior::kIsolated, false));
  parts.push_back(std::move(marks));
  return in_sequence(std::move(parts));
}

Result<PreTokenizerPtr> make_splits(const std::vector<std::string>& patterns, bool byte_level) {
  std::vector<PreTokenizerPtr> parts;
  for (const std::string& pattern : patterns) {
    PLUMB_TRY(PreTokenizerPtr split, split_by(pattern, Behavior::kIsolated, false));
    parts.push_back(std::move(split));
  }
  if (byte_level) parts.push_back(std::make_unique<ToByteAlphabet>());
  return in_sequence(std::move(parts));
}

Result<PreTokenizerPtr> read_pre_tokenizer(const Json& json) {
  PLUMB_TRY(const std::string_view type, json.string_at("type"));
  if (type == "Sequence") return read_sequence(json);
  if (type == "Split") return read_split(json);
  if (type == "ByteLevel") return read_byte_level(json);
  if (type == "Metaspace") return read_metaspace(json);
  if (type == "Punctuation") return read_punctuation(json);
  if (type == "Digits") return read_digits(json);
  if (type == "WhitespaceSplit") return split_by(R"(\s)", Behavior::kRemoved, false);
  if (type == "Whitespace") return read_whitespace();
  if (type == "BertPreTokenizer") return make_bert_pre_tokenizer();
  return Error{ErrorCode::kUnsupported,
               fmt::format("{} has the unknown pre-tokenizer \"{}\"", json.where(), type)};
}

}  // namespace plumb
