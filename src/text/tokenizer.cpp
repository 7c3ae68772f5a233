// Text through the stages of a tokenizer and back (`tokenizers` 0.23, src/tokenizer/mod.rs).
#include "text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "text/tokenizer_parts.h"

namespace plumb {
namespace {

constexpr std::size_t kMaxTextBytes = 1U << 30;
constexpr std::string_view kReplacementCharacter = "\uFFFD";

// The ids of one text that holds no token matched before normalization.
void encode_section(const TokenizerParts& parts, std::string text, bool starts_input,
                    bool parse_special, TokenModel::Scratch& scratch, std::vector<TokenId>& ids) {
  if (parts.normalizer) text = parts.normalizer->apply(std::move(text));
  for (const Section& section : parts.added->in_normalized_text().split(text, parse_special)) {
    if (section.token != nullptr) {
      ids.push_back(section.token->id);
      continue;
    }
    const std::size_t size = section.span.end - section.span.begin;
    Pieces pieces{
        text.substr(section.span.begin, size), {size}, starts_input && section.span.begin == 0};
    if (parts.pre_tokenizer) parts.pre_tokenizer->apply(pieces);
    parts.model->encode(pieces, scratch, ids);
  }
}

}  // namespace

Status TokenizerParts::add_tokens(std::vector<AddedToken> tokens) {
  PLUMB_TRY_STATUS(model_vocabulary.finish());
  for (const AddedToken& token : tokens) {
    const std::optional<TokenId> known = model_vocabulary.id(token.content);
    if (known == token.id) continue;
    const std::optional<std::string_view> taken = model_vocabulary.piece(token.id);
    if (known || taken) {
      return Error{ErrorCode::kCorrupt,
                   fmt::format("the added token \"{}\" with the id {} contradicts the vocabulary's "
                               "\"{}\" with the id {}",
                               token.content, token.id, known ? token.content : *taken,
                               known ? *known : token.id)};
    }
    PLUMB_TRY_STATUS(added_vocabulary.add(token.content, token.id));
  }
  PLUMB_TRY_STATUS(added_vocabulary.finish());
  added = std::make_unique<const AddedTokens>(std::move(tokens), normalizer.get());
  return {};
}

std::optional<std::string_view> TokenizerParts::piece(TokenId id) const {
  if (const std::optional<std::string_view> shown = added->shown(id)) return shown;
  const std::optional<std::string_view> of_model = model_vocabulary.piece(id);
  return of_model ? of_model : added_vocabulary.piece(id);
}

std::string TokenizerParts::decode(std::span<const TokenId> ids, bool skip_special,
                                   InvalidBytes invalid) const {
  std::vector<std::string> pieces;
  for (const TokenId id : ids) {
    if (skip_special && added->is_special(id)) continue;
    pieces.emplace_back(piece(id).value_or(""));
  }
  if (decoder) decoder->apply(pieces, invalid);
  std::string text;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    if (i > 0 && !decoder) text.push_back(' ');
    text.append(pieces[i]);
  }
  return text;
}

Tokenizer::Tokenizer(std::unique_ptr<const TokenizerParts> parts) : parts_(std::move(parts)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<std::vector<TokenId>> Tokenizer::encode(std::string_view text,
                                               const EncodeOptions& options) const {
  if (text.size() > kMaxTextBytes) {
    return Error{
        ErrorCode::kInvalidArgument,
        fmt::format("the text has {} bytes, over the limit of {}", text.size(), kMaxTextBytes)};
  }
  if (!is_valid_utf8(text)) {
    const std::size_t at = first_invalid_utf8(text);
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("the text is not UTF-8: its byte {} is 0x{:02x}", at,
                             static_cast<unsigned char>(text[at]))};
  }
  std::vector<TokenId> ids;
  const std::unique_ptr<TokenModel::Scratch> scratch = parts_->model->make_scratch(text.size());
  for (const Section& section : parts_->added->in_raw_text().split(text, options.parse_special)) {
    if (section.token != nullptr) {
      ids.push_back(section.token->id);
      continue;
    }
    std::string part(text.substr(section.span.begin, section.span.end - section.span.begin));
    encode_section(*parts_, std::move(part), section.span.begin == 0, options.parse_special,
                   *scratch, ids);
  }
  if (options.add_special) ids = parts_->post_processor.apply(std::move(ids));
  return ids;
}

Result<std::string> Tokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  const auto unknown =
      std::find_if(ids.begin(), ids.end(), [this](TokenId id) { return !piece(id); });
  if (unknown != ids.end()) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("id {} is not in the vocabulary, which ends at {}", *unknown,
                             vocab_size() - 1)};
  }
  return parts_->decode(ids, skip_special, InvalidBytes::kWholeRun);
}

std::int64_t Tokenizer::vocab_size() const {
  return std::max(parts_->model_vocabulary.end_id(), parts_->added_vocabulary.end_id());
}

std::optional<std::string_view> Tokenizer::piece(TokenId id) const {
  return parts_->piece(id);
}

std::optional<TokenId> Tokenizer::id(std::string_view piece) const {
  const std::optional<TokenId> of_model = parts_->model_vocabulary.id(piece);
  return of_model ? of_model : parts_->added_vocabulary.id(piece);
}

bool Tokenizer::is_special(TokenId id) const {
  return parts_->added->is_special(id);
}

// What `text`, the decode of all ids, has beyond what was sent. Where it takes that back (a byte
// token has made a run of bytes invalid whose beginning was sent as text), from then on only what
// is invalid becomes U+FFFD.
std::string StreamDecoder::beyond_sent(const std::string& text) {
  if (text.starts_with(sent_text_)) return text.substr(sent_text_.size());
  const TokenizerParts& parts = *tokenizer_.parts_;
  invalid_ = InvalidBytes::kExact;
  const std::string exact = parts.decode(ids_, skip_special_, invalid_);
  if (exact.starts_with(sent_text_)) return exact.substr(sent_text_.size());
  return parts.decode(std::span(ids_).subspan(sent_ids_), skip_special_, invalid_);
}

// Whether to look for text to send. A long list of ids without any is looked at only each time it
// has doubled, so that the work stays in proportion to its length.
bool StreamDecoder::is_due() const {
  constexpr std::size_t kAlways = 64;
  const std::size_t waiting = ids_.size() - sent_ids_;
  return waiting <= kAlways || (waiting & (waiting - 1)) == 0;
}

Result<std::string> StreamDecoder::push(TokenId id) {
  if (!tokenizer_.piece(id)) {
    return Error{ErrorCode::kInvalidArgument, fmt::format("id {} is not in the vocabulary", id)};
  }
  if (skip_special_ && tokenizer_.is_special(id)) return std::string();
  ids_.push_back(id);
  if (!is_due()) return std::string();
  const TokenizerParts& parts = *tokenizer_.parts_;
  const std::string all = parts.decode(ids_, skip_special_, invalid_);
  // U+FFFD at the end may be the beginning of a character.
  if (all.ends_with(kReplacementCharacter)) return std::string();
  std::string text = beyond_sent(all);
  if (text.empty()) return std::string();
  ids_.erase(ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(sent_ids_));
  sent_ids_ = ids_.size();
  sent_text_ = parts.decode(ids_, skip_special_, invalid_);
  return text;
}

std::string StreamDecoder::finish() {
  std::string text = beyond_sent(tokenizer_.parts_->decode(ids_, skip_special_, invalid_));
  ids_.clear();
  sent_ids_ = 0;
  sent_text_.clear();
  return text;
}

}  // namespace plumb
