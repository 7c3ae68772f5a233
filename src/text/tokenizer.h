// Tokenizers: text to ids and back, as the `tokenizers` package does it with the same
// tokenizer.json.
//   PLUMB_TRY(const Tokenizer tokenizer, Tokenizer::from_json(text, "tokenizer.json"));
//   const std::vector<TokenId> ids = tokenizer.encode("Hello", {.add_special = true, .parse_special
//   = false});
// Immutable once built; safe to share between threads.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"
#include "text/invalid_bytes.h"
#include "text/token_id.h"

namespace plumb {

struct GgufTokenizer;  // io/gguf/tokenizer_data.h
struct TokenizerParts;

struct EncodeOptions {
  bool add_special;    // apply the post-processor, which adds BOS and the like
  bool parse_special;  // text that spells a special token becomes that token; otherwise it is plain
                       // text
};

// Whether encoding with add_special puts BOS first and EOS last, for formats that leave it to the model's configuration.
struct EdgeTokens {
  bool bos;
  bool eos;
};

// What a rank file of tiktoken does not say.
struct TiktokenSettings {
  std::string pattern;
  std::vector<std::pair<std::string, TokenId>> special_tokens;
};

class Tokenizer {
 public:
  // `json` is the text of a tokenizer.json; `where` names it in errors.
  static Result<Tokenizer> from_json(std::string_view json, std::string_view where);

  // `bytes` is a SentencePiece .model.
  static Result<Tokenizer> from_sentencepiece(std::string_view bytes, const EdgeTokens& edges,
                                              std::string_view where);

  // `ranks` is a rank file of tiktoken.
  static Result<Tokenizer> from_tiktoken(std::string_view ranks, const TiktokenSettings& settings,
                                         std::string_view where);

  // The tokenizer in a GGUF file's metadata.
  static Result<Tokenizer> from_gguf(const GgufTokenizer& data, std::string_view where);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // An error when `text` is not UTF-8.
  Result<std::vector<TokenId>> encode(std::string_view text, const EncodeOptions& options) const;

  // The text of `ids`; invalid bytes become U+FFFD. An error names an id outside the vocabulary.
  Result<std::string> decode(std::span<const TokenId> ids, bool skip_special) const;

  std::int64_t vocab_size() const;  // one past the largest id; ids may have gaps
  std::optional<std::string_view> piece(TokenId id) const;  // the vocabulary entry
  std::optional<TokenId> id(std::string_view piece) const;
  bool is_special(TokenId id) const;

 private:
  friend struct TokenizerParts;
  friend class StreamDecoder;
  explicit Tokenizer(std::unique_ptr<const TokenizerParts> parts);
  std::unique_ptr<const TokenizerParts> parts_;
};

// Decodes a growing list of ids into pieces of text that never hold half a character. The tokenizer
// must outlive it.
class StreamDecoder {
 public:
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
      : tokenizer_(tokenizer), skip_special_(skip_special) {}

  Result<std::string> push(
      TokenId id);       // the text that may be shown now; "" while a character is incomplete
  std::string finish();  // what only the end releases

 private:
  std::string beyond_sent(const std::string& text);
  bool is_due() const;

  const Tokenizer& tokenizer_;
  bool skip_special_;
  InvalidBytes invalid_ = InvalidBytes::kWholeRun;
  std::vector<TokenId>
      ids_;  // those of the last text that was sent, as context, then those not sent
  std::size_t sent_ids_ = 0;
  std::string sent_text_;  // of the first sent_ids_
};

}  // namespace plumb
