// SentencePiece models (google/sentencepiece, src/sentencepiece_model.proto), and a tokenizer of what they say; GGUF's "llama"
// and "t5" tokenizers are the same data in another container.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "text/tokenizer.h"

namespace plumb {

struct GgufTokenizer;    // io/gguf/tokenizer_data.h
struct TokenizerConfig;  // io/tokenizer_config.h

struct SentencePieceModel {
  enum class Kind : unsigned char { kUnigram = 1, kBpe = 2 };
  enum class Type : unsigned char {
    kNormal = 1,
    kUnknown = 2,
    kControl = 3,
    kUserDefined = 4,
    kUnused = 5,
    kByte = 6
  };

  struct Piece {
    std::string text;
    float score;
    Type type;
  };

  Kind kind;
  std::vector<Piece> pieces;  // by id
  bool byte_fallback;
  bool add_dummy_prefix;
  bool remove_extra_whitespaces;
  bool escape_whitespaces;  // a space is written U+2581
  std::string charsmap;     // "" for none
  std::optional<TokenId> bos;
  std::optional<TokenId> eos;
};

// `bytes` is a .model file; `where` names it in errors.
Result<SentencePieceModel> read_sentencepiece(std::string_view bytes, std::string_view where);

// Tokens of tokenizer_config.json replace the model's pieces or follow them; returns what it says of BOS and EOS.
EdgeTokens apply_tokenizer_config(const TokenizerConfig& config, SentencePieceModel& model);

// Where nothing says otherwise: BPE models (Llama) put BOS first, Unigram models (T5) EOS last.
EdgeTokens default_edges(const SentencePieceModel& model);

// The same data as GGUF's metadata has it: "llama" for BPE, "t5" for Unigram. An error for what those cannot hold.
Result<GgufTokenizer> gguf_tokenizer_from_sentencepiece(const SentencePieceModel& model,
                                                        const EdgeTokens& edges,
                                                        std::string_view where);

Result<Tokenizer> make_sentencepiece_tokenizer(const SentencePieceModel& model,
                                               const EdgeTokens& edges, std::string_view where);

}  // namespace plumb
