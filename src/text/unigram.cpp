// Unigram segmentation by dynamic programming over byte positions (`tokenizers` 0.23, Unigram::encode_optimized).
#include "text/unigram.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <unordered_map>

#include "text/trie.h"
#include "text/utf8.h"

namespace plumb {
namespace {

constexpr double kUnknownPenalty = 10.0;  // below the lowest score of a piece

// The best way to reach a position of the text.
struct Step {
  double score;
  std::size_t begin;  // where its last piece begins; kUnreached when there is none
  TokenId id;
};

constexpr std::size_t kUnreached = std::numeric_limits<std::size_t>::max();

class UnigramScratch : public TokenModel::Scratch {
 public:
  std::vector<Step> best;         // [bytes + 1]
  std::vector<std::size_t> ends;  // of the pieces, last first
};

class Unigram : public TokenModel {
 public:
  Unigram(const Vocabulary& vocabulary, const std::vector<UnigramPiece>& pieces, TokenId unknown,
          bool byte_fallback)
      : vocabulary_(vocabulary),
        trie_(entries(vocabulary, pieces)),
        unknown_(unknown),
        byte_fallback_(byte_fallback) {
    double lowest = std::numeric_limits<double>::infinity();
    for (const UnigramPiece& piece : pieces) {
      scores_.emplace(piece.id, piece.score);
      lowest = std::min(lowest, piece.score);
    }
    unknown_score_ = lowest - kUnknownPenalty;
    for (std::size_t byte = 0; byte < byte_ids_.size(); ++byte) {
      byte_ids_[byte] = vocabulary.id(fmt::format("<0x{:02X}>", byte)).value_or(-1);
    }
  }

  std::unique_ptr<Scratch> make_scratch(std::size_t) const override {
    return std::make_unique<UnigramScratch>();
  }

  void encode(const Pieces& pieces, Scratch& scratch, std::vector<TokenId>& ids) const override {
    auto& work = static_cast<UnigramScratch&>(scratch);
    pieces.for_each([&](std::string_view piece, std::size_t) {
      find_best(piece, work.best);
      append_path(piece, work, ids);
    });
  }

 private:
  static std::vector<std::pair<std::string_view, TokenId>> entries(
      const Vocabulary& vocabulary, const std::vector<UnigramPiece>& pieces) {
    std::vector<std::pair<std::string_view, TokenId>> out;
    for (const UnigramPiece& piece : pieces) {
      const std::string_view text = vocabulary.piece(piece.id).value_or("");
      if (!text.empty()) out.emplace_back(text, piece.id);
    }
    return out;
  }

  void find_best(std::string_view text, std::vector<Step>& best) const {
    best.assign(text.size() + 1, {0, kUnreached, unknown_});
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t character = decode_at(text, begin).size;
      const double so_far = best[begin].score;
      bool covered = false;
      const auto offer = [&](std::size_t size, TokenId id, double score) {
        Step& step = best[begin + size];
        if (step.begin == kUnreached || so_far + score > step.score)
          step = {so_far + score, begin, id};
      };
      trie_.for_each_prefix(text.substr(begin), [&](std::size_t size, TokenId id) {
        offer(size, id, scores_.find(id)->second);
        covered = covered || size == character;
      });
      if (!covered) offer(character, unknown_, unknown_score_);
      begin += character;
    }
  }

  // Neighbouring unknown characters are one piece.
  void append_path(std::string_view text, UnigramScratch& work, std::vector<TokenId>& ids) const {
    work.ends.clear();
    for (std::size_t end = text.size(); end > 0; end = work.best[end].begin)
      work.ends.push_back(end);
    std::size_t begin = 0;
    for (std::size_t i = work.ends.size(); i-- > 0;) {
      const std::size_t end = work.ends[i];
      const bool joins_next =
          work.best[end].id == unknown_ && i > 0 && work.best[work.ends[i - 1]].id == unknown_;
      if (joins_next) continue;
      const bool is_unknown = work.best[end].id == unknown_;
      if (is_unknown) {
        append_unknown(text.substr(begin, end - begin), ids);
      } else {
        ids.push_back(work.best[end].id);
      }
      begin = end;
    }
  }

  void append_unknown(std::string_view text, std::vector<TokenId>& ids) const {
    // The joined characters may be a piece that was too unlikely as a whole.
    if (const std::optional<TokenId> known = vocabulary_.id(text)) {
      ids.push_back(*known);
      return;
    }
    const auto id_of = [this](char byte) { return byte_ids_[static_cast<unsigned char>(byte)]; };
    if (byte_fallback_ &&
        std::all_of(text.begin(), text.end(), [&](char byte) { return id_of(byte) >= 0; })) {
      for (const char byte : text)
        ids.push_back(id_of(byte));
      return;
    }
    ids.push_back(unknown_);
  }

  const Vocabulary& vocabulary_;
  Trie trie_;
  std::unordered_map<TokenId, double> scores_;
  std::array<TokenId, 256> byte_ids_{};
  double unknown_score_;
  TokenId unknown_;
  bool byte_fallback_;
};

// Each entry of the vocabulary is [piece, score]; its place is its id.
Result<std::vector<UnigramPiece>> read_pieces(const Json& json, Vocabulary& vocabulary) {
  PLUMB_TRY(const simdjson::dom::array items, json.array());
  std::vector<UnigramPiece> pieces;
  for (const simdjson::dom::element element : items) {
    const auto index = pieces.size();
    simdjson::dom::array pair;
    std::string_view piece;
    double score = 0;
    const bool right = element.get(pair) == simdjson::SUCCESS && pair.size() == 2 &&
                       pair.at(0).get(piece) == simdjson::SUCCESS &&
                       pair.at(1).get(score) == simdjson::SUCCESS;
    if (!right) return json.item(element, index).error("must be a piece and its score");
    if (Status added = vocabulary.add(piece, static_cast<std::int64_t>(index)); !added.ok()) {
      return json.item(element, index)
          .error(fmt::format("cannot be used: {}", added.error().message));
    }
    pieces.push_back({static_cast<TokenId>(index), score});
  }
  return pieces;
}

}  // namespace

TokenModelPtr make_unigram(const Vocabulary& vocabulary, const std::vector<UnigramPiece>& pieces,
                      TokenId unknown, bool byte_fallback) {
  return std::make_unique<Unigram>(vocabulary, pieces, unknown, byte_fallback);
}

Result<TokenModelPtr> read_unigram(const Json& json, Vocabulary& vocabulary) {
  PLUMB_TRY(const Json list, json.at("vocab"));
  PLUMB_TRY(const std::vector<UnigramPiece> pieces, read_pieces(list, vocabulary));
  PLUMB_TRY_STATUS(vocabulary.finish());
  PLUMB_TRY(const Json unknown, json.at("unk_id"));
  PLUMB_TRY(const std::int64_t id,
            unknown.integer(0, static_cast<std::int64_t>(pieces.size()) - 1));
  PLUMB_TRY(const bool byte_fallback, json.flag("byte_fallback", false));
  return make_unigram(vocabulary, pieces, static_cast<TokenId>(id), byte_fallback);
}

}  // namespace plumb
