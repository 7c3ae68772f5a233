// Normalizers of tokenizer.json: Unicode forms by ICU, and the small textual ones (`tokenizers`
// 0.23, src/normalizers).
#include "text/normalizer.h"

#include <fmt/format.h>
#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "core/base64.h"
#include "text/chars_map.h"
#include "text/library_unicode.h"
#include "text/precompiled.h"
#include "text/split_pattern.h"

namespace plumb {
namespace {

class UnicodeForm : public Normalizer {
 public:
  explicit UnicodeForm(const icu::Normalizer2& form) : form_(form, normalization_alphabet()) {}

  std::string apply(std::string text) const override {
    const bool ascii = std::all_of(text.begin(), text.end(),
                                   [](char c) { return static_cast<unsigned char>(c) < 0x80; });
    if (ascii) return text;
    std::string out;
    icu::StringByteSink<std::string> sink(&out, static_cast<std::int32_t>(text.size()));
    UErrorCode code = U_ZERO_ERROR;
    const icu::StringPiece source(text.data(), static_cast<std::int32_t>(text.size()));
    form_.normalizeUTF8(0, source, sink, nullptr, code);
    return U_SUCCESS(code) ? out : text;
  }

 private:
  icu::FilteredNormalizer2 form_;
};

class Lowercase : public Normalizer {
 public:
  std::string apply(std::string text) const override {
    std::string out;
    out.reserve(text.size());
    for (std::size_t i = 0; i < text.size();) {
      const Decoded c = decode_at(text, i);
      i += c.size;
      // The one character whose lower case is two (SpecialCasing.txt, unconditional).
      constexpr CodePoint kCapitalIWithDot = 0x130;
      if (c.code == kCapitalIWithDot) {
        out.append("i\u0307");
      } else {
        append_utf8(out, rust_lowercase(c.code));
      }
    }
    return out;
  }
};

class Prepend : public Normalizer {
 public:
  explicit Prepend(std::string_view prefix) : prefix_(prefix) {}

  std::string apply(std::string text) const override {
    return text.empty() ? text : prefix_ + text;
  }

 private:
  std::string prefix_;
};

class Replace : public Normalizer {
 public:
  Replace(SplitPattern pattern, std::string_view content)
      : pattern_(std::move(pattern)), content_(content) {}

  std::string apply(std::string text) const override { return pattern_.replace(text, content_); }

 private:
  SplitPattern pattern_;
  std::string content_;
};

class Strip : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}

  std::string apply(std::string text) const override {
    std::size_t begin = 0;
    std::size_t end = text.size();
    while (left_ && begin < end && space_set().contains(decode_at(text, begin).code)) {
      begin += decode_at(text, begin).size;
    }
    while (right_ && begin < end && space_set().contains(decode_before(text, end).code)) {
      end -= decode_before(text, end).size;
    }
    return text.substr(begin, end - begin);
  }

 private:
  bool left_;
  bool right_;
};

// Without the characters of a set.
class Without : public Normalizer {
 public:
  explicit Without(const CharSet& set) : set_(set) {}

  std::string apply(std::string text) const override {
    std::string out;
    out.reserve(text.size());
    for (std::size_t i = 0; i < text.size();) {
      const Decoded c = decode_at(text, i);
      if (!set_.contains(c.code)) out.append(text, i, c.size);
      i += c.size;
    }
    return out;
  }

 private:
  const CharSet& set_;
};

// Spaces around each ideograph, as BERT's multilingual models were trained.
class PadChinese : public Normalizer {
 public:
  std::string apply(std::string text) const override {
    static const CharSet ideographs({{0x4E00, 0x9FFF},
                                     {0x3400, 0x4DBF},
                                     {0x20000, 0x2A6DF},
                                     {0x2A700, 0x2B73F},
                                     {0x2B740, 0x2B81F},
                                     {0x2B920, 0x2CEAF},
                                     {0xF900, 0xFAFF},
                                     {0x2F800, 0x2FA1F}});
    std::string out;
    out.reserve(text.size());
    for (std::size_t i = 0; i < text.size();) {
      const Decoded c = decode_at(text, i);
      const bool padded = ideographs.contains(c.code);
      if (padded) out.push_back(' ');
      out.append(text, i, c.size);
      if (padded) out.push_back(' ');
      i += c.size;
    }
    return out;
  }
};

class Sequence : public Normalizer {
 public:
  explicit Sequence(std::vector<NormalizerPtr> parts) : parts_(std::move(parts)) {}

  std::string apply(std::string text) const override {
    for (const NormalizerPtr& part : parts_)
      text = part->apply(std::move(text));
    return text;
  }

 private:
  std::vector<NormalizerPtr> parts_;
};

Result<NormalizerPtr> read_sequence(const Json& json) {
  PLUMB_TRY(const Json list, json.at("normalizers"));
  PLUMB_TRY(const simdjson::dom::array items, list.array());
  std::vector<NormalizerPtr> parts;
  for (const simdjson::dom::element element : items) {
    PLUMB_TRY(NormalizerPtr part, read_normalizer(list.item(element, parts.size())));
    parts.push_back(std::move(part));
  }
  return make_normalizer_sequence(std::move(parts));
}

Result<NormalizerPtr> read_bert(const Json& json) {
  BertNormalization options;
  PLUMB_TRY(options.clean_text, json.flag("clean_text", true));
  PLUMB_TRY(options.handle_chinese_chars, json.flag("handle_chinese_chars", true));
  PLUMB_TRY(options.lowercase, json.flag("lowercase", true));
  PLUMB_TRY(options.strip_accents, json.flag("strip_accents", options.lowercase));
  return make_bert_normalizer(options);
}

Result<NormalizerPtr> read_precompiled(const Json& json) {
  PLUMB_TRY(const Json map, json.at("precompiled_charsmap"));
  PLUMB_TRY(const std::string_view encoded, map.string());
  const Result<std::string> blob = decode_base64(encoded);
  if (!blob.ok()) return map.error("is not base64");
  PLUMB_TRY(CharsMap parsed, CharsMap::parse(blob.value(), map.where()));
  return make_precompiled(std::move(parsed));
}

}  // namespace

NormalizerPtr make_normalizer_sequence(std::vector<NormalizerPtr> parts) {
  return std::make_unique<Sequence>(std::move(parts));
}

NormalizerPtr make_prepend(std::string_view prefix) {
  return std::make_unique<Prepend>(prefix);
}

NormalizerPtr make_replace(SplitPattern pattern, std::string_view content) {
  return std::make_unique<Replace>(std::move(pattern), content);
}

NormalizerPtr make_strip(bool left, bool right) {
  return std::make_unique<Strip>(left, right);
}

// `tokenizers`, src/normalizers/bert.rs, as its steps.
Result<NormalizerPtr> make_bert_normalizer(const BertNormalization& options) {
  std::vector<NormalizerPtr> parts;
  if (options.clean_text) {
    static const CharSet removed = bert_controls() | CharSet({{0, 0}, {0xFFFD, 0xFFFD}});
    parts.push_back(std::make_unique<Without>(removed));
    PLUMB_TRY(SplitPattern space, SplitPattern::regex(R"(\s)"));
    parts.push_back(std::make_unique<Replace>(std::move(space), " "));
  }
  if (options.handle_chinese_chars) parts.push_back(std::make_unique<PadChinese>());
  if (options.strip_accents) {
    PLUMB_TRY(NormalizerPtr decompose, make_unicode_form("NFD"));
    parts.push_back(std::move(decompose));
    parts.push_back(std::make_unique<Without>(bert_marks()));
  }
  if (options.lowercase) parts.push_back(std::make_unique<Lowercase>());
  return make_normalizer_sequence(std::move(parts));
}

Result<NormalizerPtr> make_unicode_form(std::string_view name) {
  UErrorCode code = U_ZERO_ERROR;
  const icu::Normalizer2* form = name == "NFC"    ? icu::Normalizer2::getNFCInstance(code)
                                 : name == "NFD"  ? icu::Normalizer2::getNFDInstance(code)
                                 : name == "NFKC" ? icu::Normalizer2::getNFKCInstance(code)
                                                  : icu::Normalizer2::getNFKDInstance(code);
  if (U_FAILURE(code)) {
    return Error{ErrorCode::kInternal,
                 fmt::format("ICU lacks the data of {}: {}", name, u_errorName(code))};
  }
  return NormalizerPtr(std::make_unique<UnicodeForm>(*form));
}

// The nesting of Sequence is limited by the JSON parser's own limit of 1024 levels.
Result<NormalizerPtr> read_normalizer(const Json& json) {
  PLUMB_TRY(const std::string_view type, json.string_at("type"));
  if (type == "Sequence") return read_sequence(json);
  if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD")
    return make_unicode_form(type);
  if (type == "Lowercase") return NormalizerPtr(std::make_unique<Lowercase>());
  if (type == "StripAccents") return NormalizerPtr(std::make_unique<Without>(library_marks()));
  if (type == "Strip") {
    PLUMB_TRY(const bool left, json.flag("strip_left", true));
    PLUMB_TRY(const bool right, json.flag("strip_right", true));
    return make_strip(left, right);
  }
  if (type == "Prepend") {
    PLUMB_TRY(const std::string_view prefix, json.string_at("prepend"));
    return make_prepend(prefix);
  }
  if (type == "Replace") {
    PLUMB_TRY(SplitPattern pattern, SplitPattern::read(json));
    PLUMB_TRY(const std::string_view content, json.string_at("content"));
    return make_replace(std::move(pattern), content);
  }
  if (type == "Precompiled") return read_precompiled(json);
  if (type == "BertNormalizer") return read_bert(json);
  return Error{ErrorCode::kUnsupported,
               fmt::format("{} has the unknown normalizer \"{}\"", json.where(), type)};
}

}  // namespace plumb
