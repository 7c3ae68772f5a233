// Decoders of tokenizer.json (`tokenizers` 0.23, src/decoders, src/pre_tokenizers/metaspace.rs).
#include "text/decoder.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "text/byte_level.h"
#include "text/split_pattern.h"
#include "text/utf8.h"

namespace plumb {
namespace {

// All pieces as one string.
std::string joined(const std::vector<std::string>& pieces) {
  std::string all;
  for (const std::string& piece : pieces)
    all.append(piece);
  return all;
}

// A piece with a character outside the byte alphabet stands for itself.
class ByteLevel : public TokenDecoder {
 public:
  void apply(std::vector<std::string>& pieces, InvalidBytes) const override {
    std::string bytes;
    for (const std::string& piece : pieces) {
      if (!ByteAlphabet::get().append_decoded(bytes, piece)) bytes.append(piece);
    }
    pieces = {to_valid_utf8(bytes)};
  }
};

// Runs of <0xHH> become the text that their bytes spell.
class ByteFallback : public TokenDecoder {
 public:
  void apply(std::vector<std::string>& pieces, InvalidBytes invalid) const override {
    std::vector<std::string> out;
    std::string run;
    const auto flush = [&] {
      if (run.empty()) return;
      if (invalid == InvalidBytes::kExact || is_valid_utf8(run)) {
        out.push_back(to_valid_utf8(run));
      } else {
        out.insert(out.end(), run.size(), "\uFFFD");
      }
      run.clear();
    };
    for (std::string& piece : pieces) {
      if (const std::optional<char> byte = byte_of(piece)) {
        run.push_back(*byte);
      } else {
        flush();
        out.push_back(std::move(piece));
      }
    }
    flush();
    pieces = std::move(out);
  }

 private:
  static std::optional<char> byte_of(std::string_view piece) {
    if (piece.size() != 6 || !piece.starts_with("<0x") || piece.back() != '>') return std::nullopt;
    const auto digit = [&](std::size_t i) {
      return std::string_view("0123456789abcdef")
          .find(static_cast<char>(piece[i] >= 'A' ? piece[i] | 0x20 : piece[i]));
    };
    if (digit(3) > 15 || digit(4) > 15) return std::nullopt;
    return static_cast<char>(digit(3) << 4 | digit(4));
  }
};

class Fuse : public TokenDecoder {
 public:
  void apply(std::vector<std::string>& pieces, InvalidBytes) const override {
    pieces = {joined(pieces)};
  }
};

// Takes up to `start` and `stop` times `content` from the ends of each piece.
class Strip : public TokenDecoder {
 public:
  Strip(std::string_view content, std::int64_t start, std::int64_t stop)
      : content_(content), start_(start), stop_(stop) {}

  void apply(std::vector<std::string>& pieces, InvalidBytes) const override {
    for (std::string& piece : pieces) {
      std::string_view rest = piece;
      for (std::int64_t i = 0; i < start_ && rest.starts_with(content_); ++i)
        rest.remove_prefix(content_.size());
      for (std::int64_t i = 0; i < stop_ && rest.ends_with(content_); ++i)
        rest.remove_suffix(content_.size());
      piece = std::string(rest);
    }
  }

 private:
  std::string content_;
  std::int64_t start_;
  std::int64_t stop_;
};

class Replace : public TokenDecoder {
 public:
  Replace(SplitPattern pattern, std::string_view content)
      : pattern_(std::move(pattern)), content_(content) {}

  void apply(std::vector<std::string>& pieces, InvalidBytes) const override {
    for (std::string& piece : pieces)
      piece = pattern_.replace(piece, content_);
  }

 private:
  SplitPattern pattern_;
  std::string content_;
};

// The replacement becomes a space, except those that the pre-tokenizer put at the beginning.
class Metaspace : public TokenDecoder {
 public:
  Metaspace(std::string_view replacement, bool drops_first)
      : replacement_(replacement), drops_first_(drops_first) {}

  void apply(std::vector<std::string>& pieces, InvalidBytes) const override {
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      const std::string content = i == 0 && drops_first_ ? "" : " ";
      pieces[i] = SplitPattern::literal(replacement_).replace(pieces[i], content);
    }
  }

 private:
  std::string replacement_;
  bool drops_first_;
};

// Joins the parts of words; `cleanup` takes away the spaces before English punctuation and contractions.
class WordPiece : public TokenDecoder {
 public:
  WordPiece(std::string_view prefix, bool cleanup) : prefix_(prefix), cleanup_(cleanup) {}

  void apply(std::vector<std::string>& pieces, InvalidBytes) const override {
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      if (i > 0)
        pieces[i] =
            pieces[i].starts_with(prefix_) ? pieces[i].substr(prefix_.size()) : " " + pieces[i];
      if (cleanup_) pieces[i] = cleaned(std::move(pieces[i]));
    }
  }

 private:
  static std::string cleaned(std::string piece) {
    constexpr std::pair<std::string_view, std::string_view> kChanges[] = {
        {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
        {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
        {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (const auto& [from, to] : kChanges)
      piece = SplitPattern::literal(from).replace(piece, to);
    return piece;
  }

  std::string prefix_;
  bool cleanup_;
};

class Sequence : public TokenDecoder {
 public:
  explicit Sequence(std::vector<TokenDecoderPtr> parts) : parts_(std::move(parts)) {}

  void apply(std::vector<std::string>& pieces, InvalidBytes invalid) const override {
    for (const TokenDecoderPtr& part : parts_)
      part->apply(pieces, invalid);
  }

 private:
  std::vector<TokenDecoderPtr> parts_;
};

Result<TokenDecoderPtr> read_strip(const Json& json) {
  constexpr std::int64_t kMaxCount = 1 << 20;
  PLUMB_TRY(const std::string_view content, json.string_at("content"));
  if (content.empty()) return json.error("has an empty content");
  PLUMB_TRY(const Json start, json.at("start"));
  PLUMB_TRY(const std::int64_t from_start, start.integer(0, kMaxCount));
  PLUMB_TRY(const Json stop, json.at("stop"));
  PLUMB_TRY(const std::int64_t from_end, stop.integer(0, kMaxCount));
  return make_strip_decoder(content, from_start, from_end);
}

Result<TokenDecoderPtr> read_metaspace(const Json& json) {
  PLUMB_TRY(const std::string_view replacement, json.string_at("replacement"));
  PLUMB_TRY(const std::optional<std::string_view> scheme, json.find_string("prepend_scheme"));
  PLUMB_TRY(const bool add_prefix_space, json.flag("add_prefix_space", true));
  const bool drops_first = add_prefix_space && scheme.value_or("always") != "never";
  return TokenDecoderPtr(std::make_unique<Metaspace>(replacement, drops_first));
}

Result<TokenDecoderPtr> read_sequence(const Json& json) {
  PLUMB_TRY(const Json list, json.at("decoders"));
  PLUMB_TRY(const simdjson::dom::array items, list.array());
  std::vector<TokenDecoderPtr> parts;
  for (const simdjson::dom::element element : items) {
    PLUMB_TRY(TokenDecoderPtr part, read_decoder(list.item(element, parts.size())));
    parts.push_back(std::move(part));
  }
  return make_decoder_sequence(std::move(parts));
}

}  // namespace

TokenDecoderPtr make_byte_level_decoder() {
  return std::make_unique<ByteLevel>();
}
TokenDecoderPtr make_byte_fallback_decoder() {
  return std::make_unique<ByteFallback>();
}
TokenDecoderPtr make_fuse_decoder() {
  return std::make_unique<Fuse>();
}

TokenDecoderPtr make_replace_decoder(SplitPattern pattern, std::string_view content) {
  return std::make_unique<Replace>(std::move(pattern), content);
}

TokenDecoderPtr make_strip_decoder(std::string_view content, std::int64_t start, std::int64_t stop) {
  return std::make_unique<Strip>(content, start, stop);
}

TokenDecoderPtr make_word_piece_decoder(std::string_view prefix, bool cleanup) {
  return std::make_unique<WordPiece>(prefix, cleanup);
}

TokenDecoderPtr make_decoder_sequence(std::vector<TokenDecoderPtr> parts) {
  return std::make_unique<Sequence>(std::move(parts));
}

Result<TokenDecoderPtr> read_decoder(const Json& json) {
  PLUMB_TRY(const std::string_view type, json.string_at("type"));
  if (type == "Sequence") return read_sequence(json);
  if (type == "ByteLevel") return make_byte_level_decoder();
  if (type == "ByteFallback") return make_byte_fallback_decoder();
  if (type == "Fuse") return make_fuse_decoder();
  if (type == "Strip") return read_strip(json);
  if (type == "Metaspace") return read_metaspace(json);
  if (type == "WordPiece") {
    PLUMB_TRY(const std::optional<std::string_view> prefix, json.find_string("prefix"));
    PLUMB_TRY(const bool cleanup, json.flag("cleanup", true));
    return make_word_piece_decoder(prefix.value_or("##"), cleanup);
  }
  if (type == "Replace") {
    PLUMB_TRY(SplitPattern pattern, SplitPattern::read(json));
    PLUMB_TRY(const std::string_view content, json.string_at("content"));
    return make_replace_decoder(std::move(pattern), content);
  }
  return Error{ErrorCode::kUnsupported,
               fmt::format("{} has the unknown decoder \"{}\"", json.where(), type)};
}

}  // namespace plumb
