// tokenizer_config.json beside a SentencePiece model (transformers, tokenization_utils_base.py; llama.cpp's conversion/base.py,
// _create_vocab_sentencepiece).
#include <fmt/format.h>

#include <charconv>

#include "text/json.h"
#include "text/sentencepiece.h"

namespace plumb {
namespace {

constexpr std::size_t kMaxPieces = std::size_t{1} << 24;
constexpr float kPaddingScore = -10000;

Result<std::size_t> read_id(const Json& json, std::string_view key) {
  std::size_t id = 0;
  const auto [end, code] = std::from_chars(key.data(), key.data() + key.size(), id);
  if (code != std::errc() || end != key.data() + key.size() || id >= kMaxPieces) {
    return json.error(fmt::format("has the id \"{}\", which is no number from 0 to {}", key, kMaxPieces - 1));
  }
  return id;
}

}  // namespace

EdgeTokens default_edges(const SentencePieceModel& model) {
  const bool unigram = model.kind == SentencePieceModel::Kind::kUnigram;
  return {.bos = !unigram, .eos = unigram};
}

Result<EdgeTokens> apply_tokenizer_config(std::string_view text, std::string_view where, SentencePieceModel& model) {
  simdjson::dom::parser parser;
  PLUMB_TRY(const Json root, parse_json(parser, text, where));
  EdgeTokens edges = default_edges(model);
  PLUMB_TRY(edges.bos, root.flag("add_bos_token", edges.bos));
  PLUMB_TRY(edges.eos, root.flag("add_eos_token", edges.eos));
  PLUMB_TRY(const std::optional<Json> added, root.find("added_tokens_decoder"));
  if (!added) return edges;
  PLUMB_TRY(const simdjson::dom::object members, added->object());
  for (const auto [key, value] : members) {
    const Json token(value, fmt::format("{}: added_tokens_decoder[\"{}\"]", where, key));
    PLUMB_TRY(const std::size_t id, read_id(*added, key));
    PLUMB_TRY(const std::string_view content, token.string_at("content"));
    PLUMB_TRY(const bool special, token.flag("special", false));
    while (model.pieces.size() <= id) {
      model.pieces.push_back({fmt::format("[PAD{}]", model.pieces.size()), kPaddingScore, SentencePieceModel::Type::kUnused});
    }
    SentencePieceModel::Piece& piece = model.pieces[id];
    piece.text = content;
    const bool is_unknown = piece.type == SentencePieceModel::Type::kUnknown;
    if (!is_unknown)
      piece.type = special ? SentencePieceModel::Type::kControl : SentencePieceModel::Type::kUserDefined;
  }
  return edges;
}

}  // namespace plumb
