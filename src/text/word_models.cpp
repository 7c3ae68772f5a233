// WordPiece takes the longest piece at each position of a word; WordLevel knows whole words only (`tokenizers` 0.23).
#include "text/word_models.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "text/trie.h"
#include "text/utf8.h"

namespace plumb {
namespace {

using PieceIds = std::vector<std::pair<std::string_view, TokenId>>;

class WordPiece : public TokenModel {
 public:
  WordPiece(const PieceIds& first, const PieceIds& later, TokenId unknown,
            std::int64_t max_characters)
      : first_(first), later_(later), unknown_(unknown), max_characters_(max_characters) {}

  std::unique_ptr<Scratch> make_scratch(std::size_t) const override {
    return std::make_unique<Scratch>();
  }

  void encode(const Pieces& pieces, Scratch&, std::vector<TokenId>& ids) const override {
    pieces.for_each([&](std::string_view word, std::size_t) {
      const std::size_t before = ids.size();
      if (append(word, ids)) return;
      ids.resize(before);
      ids.push_back(unknown_);
    });
  }

 private:
  // False when the word is too long or a part of it is no piece.
  bool append(std::string_view word, std::vector<TokenId>& ids) const {
    const auto characters = std::count_if(word.begin(), word.end(), [](char c) {
      return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    });
    if (characters > max_characters_) return false;
    for (std::size_t begin = 0; begin < word.size();) {
      std::size_t size = 0;
      TokenId id = unknown_;
      (begin == 0 ? first_ : later_)
          .for_each_prefix(word.substr(begin), [&](std::size_t s, TokenId i) {
            size = s;
            id = i;
          });
      if (size == 0) return false;
      ids.push_back(id);
      begin += size;
    }
    return true;
  }

  Trie first_;
  Trie later_;  // the pieces with the prefix, without it
  TokenId unknown_;
  std::int64_t max_characters_;
};

class WordLevel : public TokenModel {
 public:
  WordLevel(const Vocabulary& vocabulary, TokenId unknown)
      : vocabulary_(vocabulary), unknown_(unknown) {}

  std::unique_ptr<Scratch> make_scratch(std::size_t) const override {
    return std::make_unique<Scratch>();
  }

  void encode(const Pieces& pieces, Scratch&, std::vector<TokenId>& ids) const override {
    pieces.for_each([&](std::string_view word, std::size_t) {
      ids.push_back(vocabulary_.id(word).value_or(unknown_));
    });
  }

 private:
  const Vocabulary& vocabulary_;
  TokenId unknown_;
};

Result<TokenId> read_unknown(const Json& json, const Vocabulary& vocabulary,
                             std::string_view absent) {
  PLUMB_TRY(const std::optional<std::string_view> written, json.find_string("unk_token"));
  const std::string_view piece = written.value_or(absent);
  const std::optional<TokenId> id = vocabulary.id(piece);
  if (!id)
    return json.error(
        fmt::format("has the unk_token \"{}\", which is not in the vocabulary", piece));
  return *id;
}

Status read_pieces(const Json& json, Vocabulary& vocabulary) {
  PLUMB_TRY(const Json list, json.at("vocab"));
  PLUMB_TRY_STATUS(read_vocabulary(list, vocabulary));
  return vocabulary.finish();
}

}  // namespace

Status read_vocabulary(const Json& json, Vocabulary& vocabulary) {
  PLUMB_TRY(const simdjson::dom::object members, json.object());
  for (const auto [piece, value] : members) {
    std::int64_t id = -1;
    if (value.get(id) != simdjson::SUCCESS || id < 0 || id > Vocabulary::kMaxId) {
      const Json item(value, fmt::format("{}[\"{}\"]", json.where(), piece));
      PLUMB_TRY(id, item.integer(0, Vocabulary::kMaxId));
    }
    if (Status added = vocabulary.add(piece, id); !added.ok()) {
      return Error{added.error().code, fmt::format("{}: {}", json.where(), added.error().message)};
    }
  }
  return {};
}

TokenModelPtr make_word_piece(const Vocabulary& vocabulary, TokenId unknown, std::string_view prefix,
                         std::int64_t max_characters) {
  PieceIds pieces;
  PieceIds later;
  vocabulary.for_each([&](std::string_view piece, TokenId id) {
    if (!piece.empty()) pieces.emplace_back(piece, id);
    if (piece.starts_with(prefix) && piece.size() > prefix.size())
      later.emplace_back(piece.substr(prefix.size()), id);
  });
  return std::make_unique<WordPiece>(pieces, later, unknown, max_characters);
}

Result<TokenModelPtr> read_word_piece(const Json& json, Vocabulary& vocabulary) {
  constexpr std::int64_t kDefaultMaxCharacters = 100;
  constexpr std::int64_t kLimit = 1 << 20;
  PLUMB_TRY_STATUS(read_pieces(json, vocabulary));
  PLUMB_TRY(const TokenId unknown, read_unknown(json, vocabulary, "[UNK]"));
  PLUMB_TRY(const std::optional<std::string_view> written,
            json.find_string("continuing_subword_prefix"));
  PLUMB_TRY(const std::optional<Json> max, json.find("max_input_chars_per_word"));
  std::int64_t max_characters = kDefaultMaxCharacters;
  if (max) {
    PLUMB_TRY(max_characters, max->integer(0, kLimit));
  }
  return make_word_piece(vocabulary, unknown, written.value_or("##"), max_characters);
}

Result<TokenModelPtr> read_word_level(const Json& json, Vocabulary& vocabulary) {
  PLUMB_TRY_STATUS(read_pieces(json, vocabulary));
  PLUMB_TRY(const TokenId unknown, read_unknown(json, vocabulary, "<unk>"));
  return TokenModelPtr(std::make_unique<WordLevel>(vocabulary, unknown));
}

}  // namespace plumb
