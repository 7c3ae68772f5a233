// Normalizers of tokenizer.json: text to text, before it is cut into pieces (`tokenizers`,
// src/normalizers).
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "text/json.h"
#include "text/split_pattern.h"

namespace plumb {

class Normalizer {
 public:
  Normalizer() = default;
  Normalizer(const Normalizer&) = delete;
  Normalizer& operator=(const Normalizer&) = delete;
  virtual ~Normalizer() = default;

  // `text` is valid UTF-8, and so is the result.
  virtual std::string apply(std::string text) const = 0;
};

using NormalizerPtr = std::unique_ptr<const Normalizer>;

// An unknown type is an error that names it.
Result<NormalizerPtr> read_normalizer(const Json& json);

NormalizerPtr make_normalizer_sequence(std::vector<NormalizerPtr> parts);
NormalizerPtr make_prepend(std::string_view prefix);
NormalizerPtr make_replace(SplitPattern pattern, std::string_view content);
NormalizerPtr make_strip(bool left, bool right);

struct BertNormalization {
  bool clean_text = true;
  bool handle_chinese_chars = true;
  bool lowercase = true;
  bool strip_accents = true;
};

Result<NormalizerPtr> make_bert_normalizer(const BertNormalization& options);
Result<NormalizerPtr> make_unicode_form(
    std::string_view name);  // NFC, NFD, NFKC or NFKD, of Unicode 9

}  // namespace plumb
