// tokenizer_config.json beside a SentencePiece model (llama.cpp's conversion/base.py, _create_vocab_sentencepiece).
#include <fmt/format.h>

#include "io/tokenizer_config.h"
#include "text/sentencepiece.h"

namespace plumb {
namespace {

using Type = SentencePieceModel::Type;

constexpr float kPaddingScore = -10000;

}  // namespace

EdgeTokens default_edges(const SentencePieceModel& model) {
  const bool unigram = model.kind == SentencePieceModel::Kind::kUnigram;
  return {.bos = !unigram, .eos = unigram};
}

EdgeTokens apply_tokenizer_config(const TokenizerConfig& config, SentencePieceModel& model) {
  for (const TokenizerConfig::Token& token : config.added_tokens) {
    const auto id = static_cast<std::size_t>(token.id);
    while (model.pieces.size() <= id)
      model.pieces.push_back(
          {fmt::format("[PAD{}]", model.pieces.size()), kPaddingScore, Type::kUnused});
    SentencePieceModel::Piece& piece = model.pieces[id];
    piece.text = token.content;
    if (piece.type != Type::kUnknown)
      piece.type = token.special ? Type::kControl : Type::kUserDefined;
  }
  const EdgeTokens edges = default_edges(model);
  return {config.add_bos.value_or(edges.bos), config.add_eos.value_or(edges.eos)};
}

}  // namespace plumb
