// Tokenizers in GGUF metadata (llama.cpp, llama-vocab.cpp): "gpt2" is byte-level BPE, "gemma4" the same on SentencePiece's pieces,
// "llama" SentencePiece BPE, "t5" Unigram, "bert" WordPiece. A file that carries the whole tokenizer.json is read by that.
#include <fmt/format.h>

#include <utility>

#include "io/gguf/pre_tokenizers.h"
#include "io/gguf/tokenizer_data.h"
#include "text/bpe.h"
#include "text/sentencepiece.h"
#include "text/tokenizer_parts.h"
#include "text/word_models.h"

namespace plumb {
namespace {

using Type = GgufTokenType;

Error unsupported(std::string message) {
  return Error{ErrorCode::kUnsupported, std::move(message)};
}

constexpr std::string_view kSpace = "\u2581";
constexpr std::string_view kWordPiecePrefix = "##";

Status add_pieces(const std::vector<std::string>& tokens, Vocabulary& vocabulary) {
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    if (!is_valid_utf8(tokens[id])) {
      return Error{ErrorCode::kCorrupt, fmt::format("token {} is not UTF-8", id)};
    }
    PLUMB_TRY_STATUS(vocabulary.add(tokens[id], static_cast<std::int64_t>(id)));
  }
  return vocabulary.finish();
}

Result<std::vector<BpeMerge>> read_merges(const GgufTokenizer& data, const Vocabulary& vocabulary,
                                          bool raw) {
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
    // Runs of U+2581 are added tokens, written as spaces: found in the text before anything merges.
    if (raw && (left + right).starts_with(kSpace) && !(left_id && right_id && merged)) continue;
    if (!left_id || !right_id || !merged) {
      const std::string absent = !left_id ? left : !right_id ? right : left + right;
      return error(
          fmt::format("names \"{}\", which is not in the vocabulary", to_valid_utf8(absent)));
    }
    merges.push_back({*left_id, *right_id, *merged, static_cast<std::uint32_t>(merges.size())});
  }
  return merges;
}

std::vector<AddedToken> added_tokens(const GgufTokenizer& data,
                                     const std::vector<std::string>& texts) {
  std::vector<AddedToken> tokens;
  for (std::size_t id = 0; id < data.token_types.size() && id < texts.size(); ++id) {
    const Type type = data.token_types[id];
    const bool special = type == Type::kControl || type == Type::kUnknown;
    if (!special && type != Type::kUserDefined) continue;
    tokens.push_back({static_cast<TokenId>(id), texts[id], false, false, false, false, special});
  }
  return tokens;
}

// Lines that are empty, as many as a token has: llama.cpp looks such a piece up whole where its merges would not build it.
void add_newline_runs(const GgufTokenizer& data, std::vector<AddedToken>& tokens) {
  for (std::size_t id = 0; id < data.tokens.size(); ++id) {
    const std::string& text = data.tokens[id];
    const bool is_normal = id >= data.token_types.size() || data.token_types[id] == Type::kNormal;
    if (!is_normal || text.size() < 2 || text.find_first_not_of('\n') != std::string::npos)
      continue;
    tokens.push_back({static_cast<TokenId>(id), text, false, false, false, false, false});
  }
}

// U+2581 for spaces, bytes as <0xHH>.
void fill_raw_stages(TokenizerParts& parts) {
  parts.normalizer = make_replace(SplitPattern::literal(" "), kSpace);
  std::vector<TokenDecoderPtr> decoders;
  decoders.push_back(make_replace_decoder(SplitPattern::literal(kSpace), " "));
  decoders.push_back(make_byte_fallback_decoder());
  decoders.push_back(make_fuse_decoder());
  parts.decoder = make_decoder_sequence(std::move(decoders));
}

Status fill_bpe(const GgufTokenizer& data, TokenizerParts& parts) {
  const std::string_view name = data.model == "gemma4" ? data.model : data.pre;
  const GgufPreTokenizer* const pre = gguf_pre_tokenizer(name);
  if (pre == nullptr)
    return unsupported(fmt::format("tokenizer.ggml.pre \"{}\" is not supported", name));
  if (data.merges.empty())
    return Error{ErrorCode::kCorrupt, "tokenizer.ggml.merges is absent or empty"};
  PLUMB_TRY_STATUS(add_pieces(data.tokens, parts.model_vocabulary));
  PLUMB_TRY(const std::vector<BpeMerge> merges,
            read_merges(data, parts.model_vocabulary, pre->raw));
  PLUMB_TRY(parts.model, make_bpe(parts.model_vocabulary, merges,
                                  {.unknown = std::nullopt,
                                   .continuing_subword_prefix = "",
                                   .end_of_word_suffix = "",
                                   .fuse_unknown = false,
                                   .byte_fallback = pre->raw,
                                   .ignore_merges = pre->ignore_merges}));
  if (pre->nfc) {
    PLUMB_TRY(parts.normalizer, make_unicode_form("NFC"));
  }
  PLUMB_TRY(parts.pre_tokenizer, make_splits(pre->patterns, !pre->raw));
  std::vector<AddedToken> added = added_tokens(data, data.tokens);
  if (pre->raw) {
    fill_raw_stages(parts);
    if (name == "gemma4" || name == "granite-embed-multi-311m") add_newline_runs(data, added);
  } else {
    parts.decoder = make_byte_level_decoder();
  }
  const bool bos = data.add_bos.value_or(pre->add_bos);
  const bool eos = data.add_eos.value_or(false);
  parts.post_processor.add_edges(bos ? data.bos_id : std::nullopt,
                                 eos ? data.eos_id : std::nullopt);
  return parts.add_tokens(std::move(added));
}

// llama.cpp writes U+2581 before the beginning of a word and nothing before its other pieces (conversion/bert.py, phantom()).
Status fill_word_piece(const GgufTokenizer& data, TokenizerParts& parts) {
  std::vector<std::string> texts;
  for (std::size_t id = 0; id < data.tokens.size(); ++id) {
    const std::string& token = data.tokens[id];
    const Type type = id < data.token_types.size() ? data.token_types[id] : Type::kNormal;
    const bool begins = token.starts_with(kSpace);
    const bool is_added =
        type == Type::kControl || type == Type::kUnknown || type == Type::kUserDefined;
    if (begins && type != Type::kControl) {
      texts.push_back(token.substr(kSpace.size()));
    } else {
      texts.push_back(is_added ? token : std::string(kWordPiecePrefix) + token);
    }
  }
  constexpr TokenId kDefaultUnknown = 100;  // those of the BERT models (llama-vocab.cpp)
  constexpr TokenId kDefaultCls = 101;
  constexpr TokenId kDefaultSep = 102;
  constexpr std::int64_t kMaxCharacters = 100;  // transformers' BertTokenizer; GGUF does not say
  const auto known = [&](std::optional<std::int32_t> id,
                         TokenId fallback) -> std::optional<TokenId> {
    if (!id && static_cast<std::size_t>(fallback) >= texts.size()) return std::nullopt;
    return id.value_or(fallback);
  };
  const std::optional<TokenId> unknown = known(data.unk_id, kDefaultUnknown);
  if (!unknown) return Error{ErrorCode::kCorrupt, "tokenizer.ggml.unknown_token_id is absent"};
  PLUMB_TRY_STATUS(add_pieces(texts, parts.model_vocabulary));
  parts.model = make_word_piece(parts.model_vocabulary, *unknown, kWordPiecePrefix, kMaxCharacters);
  const bool lowercase = data.lowercase.value_or(true);
  PLUMB_TRY(parts.normalizer,
            make_bert_normalizer(
                {.lowercase = lowercase, .strip_accents = data.strip_accents.value_or(lowercase)}));
  PLUMB_TRY(parts.pre_tokenizer, make_bert_pre_tokenizer());
  parts.decoder = make_word_piece_decoder(kWordPiecePrefix, true);
  const bool bos = data.add_bos.value_or(true);
  const bool sep = data.add_sep.value_or(true);
  parts.post_processor.add_edges(bos ? known(data.bos_id, kDefaultCls) : std::nullopt,
                                 sep ? known(data.sep_id, kDefaultSep) : std::nullopt);
  return parts.add_tokens(added_tokens(data, texts));
}

// The whole tokenizer.json; its ids must be those that the file's other keys speak of.
Result<Tokenizer> from_embedded_json(const GgufTokenizer& data, std::string_view where) {
  PLUMB_TRY(Tokenizer tokenizer,
            Tokenizer::from_json(data.huggingface_json,
                                 fmt::format("{}: tokenizer.huggingface.json", where)));
  const auto tokens = static_cast<std::int64_t>(data.tokens.size());
  if (tokenizer.vocab_size() > tokens) {
    return Error{
        ErrorCode::kCorrupt,
        fmt::format("{}: tokenizer.huggingface.json has {} tokens, tokenizer.ggml.tokens {}", where,
                    tokenizer.vocab_size(), tokens)};
  }
  return tokenizer;
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

Result<GgufTokenizer> gguf_tokenizer_from_sentencepiece(const SentencePieceModel& model,
                                                        const EdgeTokens& edges,
                                                        std::string_view where) {
  const bool unigram = model.kind == SentencePieceModel::Kind::kUnigram;
  if (!model.escape_whitespaces ||
      (unigram ? model.byte_fallback : !model.charsmap.empty() || model.remove_extra_whitespaces)) {
    return unsupported(fmt::format("{}: GGUF cannot hold a {}", where,
                                   !model.escape_whitespaces
                                       ? "model that leaves spaces as they are"
                                   : unigram ? "Unigram model with byte fallback"
                                             : "BPE model that normalizes its text"));
  }
  GgufTokenizer data;
  data.model = unigram ? "t5" : "llama";
  data.pre = "default";
  for (const SentencePieceModel::Piece& piece : model.pieces) {
    if (piece.type == SentencePieceModel::Type::kUnknown && !data.unk_id)
      data.unk_id = static_cast<std::int32_t>(data.tokens.size());
    data.tokens.push_back(piece.text);
    data.scores.push_back(piece.score);
    data.token_types.push_back(static_cast<Type>(piece.type));
  }
  for (const char c : model.charsmap)
    data.precompiled_charsmap.push_back(static_cast<std::byte>(c));
  data.bos_id = model.bos;
  data.eos_id = model.eos;
  data.add_bos = edges.bos;
  data.add_eos = edges.eos;
  data.add_space_prefix = model.add_dummy_prefix;
  if (unigram) data.remove_extra_whitespaces = model.remove_extra_whitespaces;
  return data;
}

Result<Tokenizer> Tokenizer::from_gguf(const GgufTokenizer& data, std::string_view where) {
  if (!data.huggingface_json.empty()) return from_embedded_json(data, where);
  if (data.model == "llama" || data.model == "t5") {
    const std::size_t count = data.tokens.size();
    if (data.scores.size() != count || data.token_types.size() != count) {
      return Error{ErrorCode::kCorrupt,
                   fmt::format("{}: {} tokens need as many scores and types, not {} and {}", where,
                               count, data.scores.size(), data.token_types.size())};
    }
    const SentencePieceModel model = sentencepiece_model(data);
    const EdgeTokens absent = default_edges(model);
    const EdgeTokens edges{data.add_bos.value_or(absent.bos), data.add_eos.value_or(absent.eos)};
    return make_sentencepiece_tokenizer(model, edges, where);
  }
  const bool is_bpe = data.model == "gpt2" || data.model == "gemma4";
  if (!is_bpe && data.model != "bert") {
    return unsupported(
        fmt::format("{}: tokenizer.ggml.model \"{}\" is not supported", where, data.model));
  }
  auto parts = std::make_unique<TokenizerParts>();
  const Status filled = is_bpe ? fill_bpe(data, *parts) : fill_word_piece(data, *parts);
  if (!filled.ok()) {
    return Error{filled.error().code, fmt::format("{}: {}", where, filled.error().message)};
  }
  return Tokenizer(std::move(parts));
}

}  // namespace plumb
