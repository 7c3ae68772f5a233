// Applying compiled character maps (`tokenizers` 0.23, src/normalizers/precompiled.rs; sentencepiece, src/normalizer.cc).
#include "text/precompiled.h"

#include <unicode/brkiter.h>
#include <unicode/utext.h>

#include <memory>
#include <utility>

#include "text/library_unicode.h"

namespace plumb {
namespace {

class Precompiled : public Normalizer {
 public:
  explicit Precompiled(CharsMap map) : map_(std::move(map)) {}

  std::string apply(std::string text) const override {
    UErrorCode code = U_ZERO_ERROR;
    const std::unique_ptr<icu::BreakIterator> breaks(
        icu::BreakIterator::createCharacterInstance(icu::Locale::getRoot(), code));
    UText view = UTEXT_INITIALIZER;
    utext_openUTF8(&view, text.data(), static_cast<std::int64_t>(text.size()), &code);
    if (U_FAILURE(code)) return text;
    breaks->setText(&view, code);
    std::string out;
    out.reserve(text.size());
    std::size_t begin = 0;
    breaks->first();
    for (std::int32_t next = breaks->next(); next != icu::BreakIterator::DONE;
         next = breaks->next()) {
      const auto end = static_cast<std::size_t>(next);
      if (joins(text, end)) continue;
      append_cluster(std::string_view(text).substr(begin, end - begin), out);
      begin = end;
    }
    utext_close(&view);
    return out;
  }

 private:
  // Whether the package sees no break at `position`, where ICU's older Unicode has one.
  static bool joins(std::string_view text, std::size_t position) {
    // Grapheme_Cluster_Break Control: format characters but joiners, tags and those that go before a number.
    static const CharSet format =
        property_set("Cf").value_or(CharSet()) & ~CharSet({{0x200C, 0x200D},
                                                           {0xE0020, 0xE007F},
                                                           {0x600, 0x605},
                                                           {0x6DD, 0x6DD},
                                                           {0x70F, 0x70F},
                                                           {0x890, 0x891},
                                                           {0x8E2, 0x8E2},
                                                           {0x110BD, 0x110BD},
                                                           {0x110CD, 0x110CD}});
    static const CharSet breaking =
        property_set("Cc").value_or(CharSet()) | format | CharSet({{0x2028, 0x2029}});
    return position < text.size() && newly_extending().contains(decode_at(text, position).code) &&
           !breaking.contains(decode_before(text, position).code);
  }

  // The library looks up a short cluster as a whole, and takes the shortest key it starts with; the rest of it vanishes.
  void append_cluster(std::string_view cluster, std::string& out) const {
    constexpr std::size_t kShort = 6;
    const std::optional<CharsMap::Match> whole =
        cluster.size() < kShort ? map_.shortest(cluster) : std::nullopt;
    if (whole) {
      out.append(whole->replacement);
      return;
    }
    for (std::size_t i = 0; i < cluster.size();) {
      const std::string_view character = cluster.substr(i, decode_at(cluster, i).size);
      const std::optional<CharsMap::Match> match = map_.shortest(character);
      out.append(match ? match->replacement : character);
      i += character.size();
    }
  }

  CharsMap map_;
};

class SentencePieceMap : public Normalizer {
 public:
  explicit SentencePieceMap(CharsMap map) : map_(std::move(map)) {}

  std::string apply(std::string text) const override {
    std::string out;
    out.reserve(text.size());
    for (std::size_t i = 0; i < text.size();) {
      const std::string_view rest = std::string_view(text).substr(i);
      const std::optional<CharsMap::Match> match = map_.longest(rest);
      const std::size_t size = match ? match->size : decode_at(rest, 0).size;
      out.append(match ? match->replacement : rest.substr(0, size));
      i += size;
    }
    return out;
  }

 private:
  CharsMap map_;
};

}  // namespace

NormalizerPtr make_precompiled(CharsMap map) {
  return std::make_unique<Precompiled>(std::move(map));
}

NormalizerPtr make_sentencepiece_map(CharsMap map) {
  return std::make_unique<SentencePieceMap>(std::move(map));
}

}  // namespace plumb
