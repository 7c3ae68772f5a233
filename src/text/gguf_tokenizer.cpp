// Tokenizers in GGUF metadata (llama.cpp, llama-vocab.cpp): "gpt2" is byte-level BPE, "llama" SentencePiece BPE, "t5" Unigram.
#include <fmt/format.h>

#include <utility>

#include "io/gguf/tokenizer_data.h"
#include "text/bpe.h"
#include "text/gguf_patterns.h"
#include "text/sentencepiece.h"
#include "text/tokenizer_parts.h"

namespace plumb {
namespace {

using Type = GgufTokenType;

Error unsupported(std::string message) {
  return Error{ErrorCode::kUnsupported, std::move(message)};
}

Status add_pieces(const GgufTokenizer& data, Vocabulary& vocabulary) {
  for (std::size_t id = 0; id < data.tokens.size(); ++id) {
    if (!is_valid_utf8(data.tokens[id])) {
      return Error{ErrorCode::kCorrupt, fmt::format("token {} is not UTF-8", id)};
    }
    PLUMB_TRY_STATUS(vocabulary.add(data.tokens[id], static_cast<std::int64_t>(id)));
  }
  return vocabulary.finish();
}

Result<std::vector<BpeMerge>> read_merges(const GgufTokenizer& data, const Vocabulary& vocabulary) {
  std::vector<BpeMerge> merges;
  for (const std::string& line : data.merges) {
    const std::size_t space = line.find(' ', 1);  // a piece may begin with a space
    const auto error = [&](std::string_view problem) {
      return Error{ErrorCode::kCorrupt, fmt::format("merge {} {}", merges.size(), problem)};
    };
    if (space == std::string::npos) return error("has no space between two pieces");
    const std::string left = line.substr(0, space);
    const std::string right = line.substr(space + 1);
    const std::optional<TokenId> left_id = vocabulary.id(left);
    const std::optional<TokenId> right_id = vocabulary.id(right);
    const std::optional<TokenId> merged = vocabulary.id(left + right);
    if (!left_id || !right_id || !merged) {
      const std::string absent = !left_id ? left : !right_id ? right : left + right;
      return error(
          fmt::format("names \"{}\", which is not in the vocabulary", to_valid_utf8(absent)));
    }
    merges.push_back({*left_id, *right_id, *merged, static_cast<std::uint32_t>(merges.size())});
  }
  return merges;
}

std::vector<AddedToken> added_tokens(const GgufTokenizer& data) {
  std::vector<AddedToken> tokens;
  for (std::size_t id = 0; id < data.token_types.size() && id < data.tokens.size(); ++id) {
    const Type type = data.token_types[id];
    const bool special = type == Type::kControl || type == Type::kUnknown;
    if (!special && type != Type::kUserDefined) continue;
    tokens.push_back(
        {static_cast<TokenId>(id), data.tokens[id], false, false, false, false, special});
  }
  return tokens;
}

Status fill_byte_level(const GgufTokenizer& data, TokenizerParts& parts) {
  const std::optional<GgufPreTokenizer> pre = gguf_pre_tokenizer(data.pre);
  if (!pre) return unsupported(fmt::format("tokenizer.ggml.pre \"{}\" is not supported", data.pre));
  PLUMB_TRY_STATUS(add_pieces(data, parts.model_vocabulary));
  PLUMB_TRY(const std::vector<BpeMerge> merges, read_merges(data, parts.model_vocabulary));
  PLUMB_TRY(parts.model, make_bpe(parts.model_vocabulary, merges,
                                  {.unknown = std::nullopt,
                                   .continuing_subword_prefix = "",
                                   .end_of_word_suffix = "",
                                   .fuse_unknown = false,
                                   .byte_fallback = false,
                                   .ignore_merges = pre->ignore_merges}));
  if (pre->nfc) {
    PLUMB_TRY(parts.normalizer, make_unicode_form("NFC"));
  }
  PLUMB_TRY(parts.pre_tokenizer, make_byte_level_splits(pre->patterns));
  parts.decoder = make_byte_level_decoder();
  const bool bos = data.add_bos.value_or(pre->add_bos);
  const bool eos = data.add_eos.value_or(false);
  parts.post_processor.add_edges(bos ? data.bos_id : std::nullopt,
                                 eos ? data.eos_id : std::nullopt);
  return parts.add_tokens(added_tokens(data));
}

SentencePieceModel sentencepiece_model(const GgufTokenizer& data) {
  const bool unigram = data.model == "t5";
  SentencePieceModel model{
      unigram ? SentencePieceModel::Kind::kUnigram : SentencePieceModel::Kind::kBpe,
      {},
      !unigram,
      data.add_space_prefix.value_or(true),
      data.remove_extra_whitespaces.value_or(unigram),
      true,
      std::string(),
      data.bos_id,
      data.eos_id};
  for (std::size_t id = 0; id < data.tokens.size(); ++id) {
    const auto number = static_cast<std::int32_t>(data.token_types[id]);
    const bool known = number >= 1 && number <= 6;
    model.pieces.push_back({data.tokens[id], data.scores[id],
                            known ? static_cast<SentencePieceModel::Type>(number)
                                  : SentencePieceModel::Type::kNormal});
  }
  for (const std::byte byte : data.precompiled_charsmap)
    model.charsmap.push_back(static_cast<char>(byte));
  return model;
}

}  // namespace

Result<Tokenizer> Tokenizer::from_gguf(const GgufTokenizer& data, std::string_view where) {
  if (data.model == "llama" || data.model == "t5") {
    const std::size_t count = data.tokens.size();
    if (data.scores.size() != count || data.token_types.size() != count) {
      return Error{ErrorCode::kCorrupt,
                   fmt::format("{}: {} tokens need as many scores and types, not {} and {}", where,
                               count, data.scores.size(), data.token_types.size())};
    }
    const bool unigram = data.model == "t5";
    const EdgeTokens edges{data.add_bos.value_or(!unigram), data.add_eos.value_or(unigram)};
    return make_sentencepiece_tokenizer(sentencepiece_model(data), edges, where);
  }
  if (data.model != "gpt2") {
    return unsupported(
        fmt::format("{}: tokenizer.ggml.model \"{}\" is not supported", where, data.model));
  }
  auto parts = std::make_unique<TokenizerParts>();
  if (Status filled = fill_byte_level(data, *parts); !filled.ok()) {
    return Error{filled.error().code, fmt::format("{}: {}", where, filled.error().message)};
  }
  return Tokenizer(std::move(parts));
}

}  // namespace plumb
