// Added tokens: strings that become one id wherever they stand, before the text is cut into pieces
// (`tokenizers`, src/tokenizer/added_vocabulary.rs).
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/result.h"
#include "text/json.h"
#include "text/normalizer.h"
#include "text/regex.h"
#include "text/vocabulary.h"

namespace plumb {

struct AddedToken {
  TokenId id;
  std::string content;
  bool single_word;  // matches only where no word character touches it
  bool lstrip;       // takes the white space before it along
  bool rstrip;       // takes the white space after it along
  bool normalized;   // is looked for in the normalized text, in its own normalized form
  bool special;      // is matched only where the caller asks for it
};

// A part of the text: an added token, or text between them.
struct Section {
  Span span;
  const AddedToken* token;  // null for text
};

// Finds a set of strings: leftmost first, then longest.
class TokenMatcher {
 public:
  void add(std::string_view content, const AddedToken* token);
  void finish();

  // Special tokens are left as text unless `parse_special`.
  std::vector<Section> split(std::string_view text, bool parse_special) const;

 private:
  struct Entry {
    std::string content;
    const AddedToken* token;
  };

  const Entry* longest_at(std::string_view text, std::size_t position) const;

  std::vector<Entry> entries_;  // sorted by content
  std::vector<std::size_t>
      first_with_;  // [byte]: the first entry that starts with it; one more at the end
};

class AddedTokens {
 public:
  // `normalizer` may be null.
  AddedTokens(std::vector<AddedToken> tokens, const Normalizer* normalizer);

  const TokenMatcher& in_raw_text() const { return raw_; }
  const TokenMatcher& in_normalized_text() const { return normalized_; }
  bool is_special(TokenId id) const { return special_.contains(id); }

  // The content of a token that is looked for in normalized text, in its normalized form.
  std::optional<std::string_view> shown(TokenId id) const;

 private:
  std::vector<AddedToken> tokens_;
  TokenMatcher raw_;
  TokenMatcher normalized_;
  std::unordered_set<TokenId> special_;
  std::unordered_map<TokenId, std::string> shown_;
};

// The "added_tokens" of tokenizer.json.
Result<std::vector<AddedToken>> read_added_tokens(const Json& root);

}  // namespace plumb
