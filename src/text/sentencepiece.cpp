// A tokenizer of SentencePiece data. User-defined pieces are found in the normalized text; control pieces only where the caller
// lets special tokens be parsed (sentencepiece, src/normalizer.cc, src/bpe_model.cc, src/unigram_model.cc).
#include "text/sentencepiece.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "text/bpe.h"
#include "text/chars_map.h"
#include "text/precompiled.h"
#include "text/tokenizer_parts.h"
#include "text/unigram.h"

namespace plumb {
namespace {

using Type = SentencePieceModel::Type;

constexpr std::string_view kSpace = "\u2581";
constexpr std::size_t kMaxPieceBytes = 1024;

// Without spaces at the ends, and with one where there are several.
class CollapseSpaces : public Normalizer {
 public:
  std::string apply(std::string text) const override {
    std::string out;
    for (const char c : text) {
      if (c != ' ' || (!out.empty() && out.back() != ' ')) out.push_back(c);
    }
    if (out.ends_with(' ')) out.pop_back();
    return out;
  }
};

Status add_pieces(const SentencePieceModel& model, Vocabulary& vocabulary) {
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    const SentencePieceModel::Piece& piece = model.pieces[id];
    const auto error = [&](std::string_view problem) {
      return Error{ErrorCode::kCorrupt, fmt::format("piece {} {}", id, problem)};
    };
    if (!is_valid_utf8(piece.text)) return error("is not UTF-8");
    if (piece.text.size() > kMaxPieceBytes) {
      return error(
          fmt::format("has {} bytes, over the limit of {}", piece.text.size(), kMaxPieceBytes));
    }
    if (!std::isfinite(piece.score)) return error("has a score that is not finite");
    PLUMB_TRY_STATUS(vocabulary.add(piece.text, static_cast<std::int64_t>(id)));
  }
  return vocabulary.finish();
}

bool is_found_by_model(const SentencePieceModel::Piece& piece) {
  return (piece.type == Type::kNormal || piece.type == Type::kUserDefined) && !piece.text.empty();
}

// Any two neighbours whose text together is a piece may merge; the higher score goes first, of equal ones the leftmost.
std::vector<BpeMerge> merges_of(const SentencePieceModel& model, const Vocabulary& vocabulary) {
  std::vector<float> scores;
  for (const SentencePieceModel::Piece& piece : model.pieces)
    scores.push_back(piece.score);
  std::sort(scores.begin(), scores.end(), std::greater<>());
  scores.erase(std::unique(scores.begin(), scores.end()), scores.end());
  std::vector<BpeMerge> merges;
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    const SentencePieceModel::Piece& piece = model.pieces[id];
    if (!is_found_by_model(piece)) continue;
    const auto place =
        std::lower_bound(scores.begin(), scores.end(), piece.score, std::greater<>());
    const auto rank = static_cast<std::uint32_t>(place - scores.begin());
    for (std::size_t i = decode_at(piece.text, 0).size; i < piece.text.size();
         i += decode_at(piece.text, i).size) {
      const std::optional<TokenId> left = vocabulary.id(std::string_view(piece.text).substr(0, i));
      const std::optional<TokenId> right = vocabulary.id(std::string_view(piece.text).substr(i));
      if (left && right) merges.push_back({*left, *right, static_cast<TokenId>(id), rank});
    }
  }
  return merges;
}

Result<TokenModelPtr> make_model(const SentencePieceModel& model, const Vocabulary& vocabulary) {
  const auto found = std::find_if(model.pieces.begin(), model.pieces.end(),
                                  [](const auto& piece) { return piece.type == Type::kUnknown; });
  std::optional<TokenId> unknown;
  if (found != model.pieces.end()) unknown = static_cast<TokenId>(found - model.pieces.begin());
  if (model.kind == SentencePieceModel::Kind::kBpe) {
    return make_bpe(vocabulary, merges_of(model, vocabulary),
                    {.unknown = unknown,
                     .continuing_subword_prefix = "",
                     .end_of_word_suffix = "",
                     .fuse_unknown = true,
                     .byte_fallback = model.byte_fallback,
                     .ignore_merges = false});
  }
  if (!unknown) return Error{ErrorCode::kCorrupt, "a Unigram model without an unknown piece"};
  std::vector<UnigramPiece> pieces;
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    if (is_found_by_model(model.pieces[id]))
      pieces.push_back({static_cast<TokenId>(id), model.pieces[id].score});
  }
  return make_unigram(vocabulary, pieces, *unknown, model.byte_fallback);
}

Result<NormalizerPtr> make_normalizer(const SentencePieceModel& model, std::string_view where) {
  std::vector<NormalizerPtr> parts;
  if (!model.charsmap.empty()) {
    PLUMB_TRY(CharsMap map,
              CharsMap::parse(model.charsmap, fmt::format("{}: precompiled_charsmap", where)));
    parts.push_back(make_sentencepiece_map(std::move(map)));
  }
  if (model.remove_extra_whitespaces) parts.push_back(std::make_unique<CollapseSpaces>());
  if (model.add_dummy_prefix) parts.push_back(make_prepend(" "));
  if (model.escape_whitespaces) parts.push_back(make_replace(SplitPattern::literal(" "), kSpace));
  return make_normalizer_sequence(std::move(parts));
}

std::vector<AddedToken> added_tokens(const SentencePieceModel& model) {
  std::vector<AddedToken> tokens;
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    const auto& [text, score, type] = model.pieces[id];
    const bool special = type == Type::kControl || type == Type::kUnknown;
    if (!special && type != Type::kUserDefined) continue;
    // llama.cpp writes user-defined pieces with the spaces of the text; sentencepiece as they are normalized.
    const bool normalized = !special && text.find(' ') == std::string::npos;
    tokens.push_back({static_cast<TokenId>(id), text, false, false, false, normalized, special});
  }
  return tokens;
}

}  // namespace

Result<Tokenizer> make_sentencepiece_tokenizer(const SentencePieceModel& model,
                                               const EdgeTokens& edges, std::string_view where) {
  const auto named = [&](const Error& error) {
    return Error{error.code, fmt::format("{}: {}", where, error.message)};
  };
  auto parts = std::make_unique<TokenizerParts>();
  if (Status added = add_pieces(model, parts->model_vocabulary); !added.ok())
    return named(added.error());
  Result<TokenModelPtr> made = make_model(model, parts->model_vocabulary);
  if (!made.ok()) return named(made.error());
  parts->model = std::move(made).value();
  // The pieces are written in normalized form already, so they are matched as they are.
  if (Status added = parts->add_tokens(added_tokens(model)); !added.ok())
    return named(added.error());
  PLUMB_TRY(parts->normalizer, make_normalizer(model, where));
  parts->post_processor.add_edges(edges.bos ? model.bos : std::nullopt,
                                  edges.eos ? model.eos : std::nullopt);
  std::vector<TokenDecoderPtr> decoders;
  if (model.escape_whitespaces)
    decoders.push_back(make_replace_decoder(SplitPattern::literal(kSpace), " "));
  decoders.push_back(make_byte_fallback_decoder());
  decoders.push_back(make_fuse_decoder());
  if (model.add_dummy_prefix) decoders.push_back(make_strip_decoder(" ", 1, 0));
  parts->decoder = make_decoder_sequence(std::move(decoders));
  return TokenizerParts::build(std::move(parts));
}

Result<Tokenizer> Tokenizer::from_sentencepiece(std::string_view bytes, const EdgeTokens& edges,
                                                std::string_view where) {
  PLUMB_TRY(const SentencePieceModel model, read_sentencepiece(bytes, where));
  return make_sentencepiece_tokenizer(model, edges, where);
}

}  // namespace plumb
