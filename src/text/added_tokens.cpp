// Matching added tokens (`tokenizers` 0.23, AddedVocabulary::find_matches), with one difference:
// white space that a token's rstrip has taken along is not matched once more as a token of its own.
#include "text/added_tokens.h"

#include <algorithm>
#include <utility>

#include "text/library_unicode.h"

namespace plumb {
namespace {

bool touches_word(std::string_view text, Span span) {
  if (span.begin > 0 && rust_word().contains(decode_before(text, span.begin).code)) return true;
  return span.end < text.size() && rust_word().contains(decode_at(text, span.end).code);
}

Span with_stripped_space(std::string_view text, Span span, const AddedToken& token,
                         std::size_t done) {
  while (token.lstrip && span.begin > done) {
    const Decoded c = decode_before(text, span.begin);
    if (!space_set().contains(c.code)) break;
    span.begin -= c.size;
  }
  while (token.rstrip && span.end < text.size()) {
    const Decoded c = decode_at(text, span.end);
    if (!space_set().contains(c.code)) break;
    span.end += c.size;
  }
  return span;
}

}  // namespace

void TokenMatcher::add(std::string_view content, const AddedToken* token) {
  if (!content.empty()) entries_.push_back({std::string(content), token});
}

void TokenMatcher::finish() {
  const auto less = [](const Entry& a, const Entry& b) { return a.content < b.content; };
  std::stable_sort(entries_.begin(), entries_.end(), less);
  first_with_.assign(257, entries_.size());
  for (std::size_t i = entries_.size(); i-- > 0;) {
    first_with_[static_cast<unsigned char>(entries_[i].content.front())] = i;
  }
  for (std::size_t byte = 256; byte-- > 0;)
    first_with_[byte] = std::min(first_with_[byte], first_with_[byte + 1]);
}

// Narrows the range of entries that share a prefix with the text, byte by byte.
const TokenMatcher::Entry* TokenMatcher::longest_at(std::string_view text,
                                                    std::size_t position) const {
  const auto first = static_cast<unsigned char>(text[position]);
  auto low = entries_.begin() + static_cast<std::ptrdiff_t>(first_with_[first]);
  auto high = entries_.begin() + static_cast<std::ptrdiff_t>(first_with_[std::size_t{first} + 1]);
  const Entry* longest = nullptr;
  for (std::size_t depth = 1; low != high; ++depth) {
    if (low->content.size() == depth) {
      longest = &*low;  // the first of equal contents
      while (low != high && low->content.size() == depth)
        ++low;
    }
    if (position + depth >= text.size()) break;
    const auto byte = static_cast<unsigned char>(text[position + depth]);
    const auto at = [depth](const Entry& entry) {
      return static_cast<unsigned char>(entry.content[depth]);
    };
    low = std::lower_bound(low, high, byte,
                           [&](const Entry& entry, unsigned char b) { return at(entry) < b; });
    high = std::upper_bound(low, high, byte,
                            [&](unsigned char b, const Entry& entry) { return b < at(entry); });
  }
  return longest;
}

std::vector<Section> TokenMatcher::split(std::string_view text, bool parse_special) const {
  std::vector<Section> sections;
  std::size_t done = 0;
  std::size_t position = entries_.empty() ? text.size() : 0;
  while (position < text.size()) {
    const Entry* const entry = longest_at(text, position);
    if (entry == nullptr) {
      ++position;
      continue;
    }
    const AddedToken& token = *entry->token;
    Span span{position, position + entry->content.size()};
    position = span.end;
    if (token.special && !parse_special) continue;
    if (token.single_word && touches_word(text, span)) continue;
    if (span.begin < done) continue;
    span = with_stripped_space(text, span, token, done);
    if (span.begin > done) sections.push_back({{done, span.begin}, nullptr});
    sections.push_back({span, &token});
    done = span.end;
  }
  if (done < text.size()) sections.push_back({{done, text.size()}, nullptr});
  return sections;
}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, const Normalizer* normalizer)
    : tokens_(std::move(tokens)) {
  // Of equal contents the special token is found, as there.
  for (const bool special : {true, false}) {
    for (const AddedToken& token : tokens_) {
      if (token.special != special) continue;
      if (special) special_.insert(token.id);
      if (!token.normalized || normalizer == nullptr) {
        (token.normalized ? normalized_ : raw_).add(token.content, &token);
        continue;
      }
      const std::string& content =
          shown_.emplace(token.id, normalizer->apply(token.content)).first->second;
      normalized_.add(content, &token);
    }
  }
  raw_.finish();
  normalized_.finish();
}

std::optional<std::string_view> AddedTokens::shown(TokenId id) const {
  const auto found = shown_.find(id);
  if (found == shown_.end()) return std::nullopt;
  return found->second;
}

Result<std::vector<AddedToken>> read_added_tokens(const Json& root) {
  std::vector<AddedToken> tokens;
  PLUMB_TRY(const std::optional<Json> list, root.find("added_tokens"));
  if (!list) return tokens;
  PLUMB_TRY(const simdjson::dom::array items, list->array());
  for (const simdjson::dom::element element : items) {
    const Json item = list->item(element, tokens.size());
    PLUMB_TRY(const Json id, item.at("id"));
    PLUMB_TRY(const std::int64_t number, id.integer(0, Vocabulary::kMaxId));
    PLUMB_TRY(const std::string_view content, item.string_at("content"));
    PLUMB_TRY(const bool single_word, item.flag("single_word", false));
    PLUMB_TRY(const bool lstrip, item.flag("lstrip", false));
    PLUMB_TRY(const bool rstrip, item.flag("rstrip", false));
    PLUMB_TRY(const bool special, item.flag("special", false));
    PLUMB_TRY(const bool normalized, item.flag("normalized", !special));
    tokens.push_back({static_cast<TokenId>(number), std::string(content), single_word, lstrip,
                      rstrip, normalized, special});
  }
  return tokens;
}

}  // namespace plumb
