// Rank files of tiktoken (openai/tiktoken, tiktoken/load.py): each line a token in base64 and its rank, which is its id. The
// pattern and the special tokens are not in the file: who loads it gives them.
#include <fmt/format.h>

#include <charconv>
#include <utility>

#include "core/base64.h"
#include "io/gguf/pre_tokenizers.h"
#include "io/tokenizer_config.h"
#include "text/bpe.h"
#include "text/byte_level.h"
#include "text/chars_map.h"
#include "text/tiktoken_config.h"
#include "text/tokenizer.h"
#include "text/tokenizer_parts.h"

namespace plumb {
namespace {

constexpr std::size_t kMaxTokenBytes = 1024;

struct Ranked {
  std::string bytes;
  TokenId rank;
};

Result<Ranked> read_line(std::string_view line) {
  const auto error = [](std::string_view problem) {
    return Error{ErrorCode::kCorrupt, std::string(problem)};
  };
  const std::size_t space = line.find(' ');
  if (space == std::string_view::npos) return error("lacks the space between token and rank");
  Result<std::string> bytes = decode_base64(line.substr(0, space));
  if (!bytes.ok() || bytes.value().empty()) return error("has a token that is not base64");
  if (bytes.value().size() > kMaxTokenBytes) {
    return error(fmt::format("has a token of {} bytes, over the limit of {}", bytes.value().size(),
                             kMaxTokenBytes));
  }
  TokenId rank = -1;
  const std::string_view number = line.substr(space + 1);
  const auto [end, code] = std::from_chars(number.data(), number.data() + number.size(), rank);
  if (code != std::errc() || end != number.data() + number.size() || rank < 0) {
    return error(fmt::format("has a rank that is no number from 0 to {}", Vocabulary::kMaxId));
  }
  return Ranked{std::move(bytes).value(), rank};
}

std::string spelled(std::string_view bytes) {
  std::string out;
  ByteAlphabet::get().append_encoded(out, bytes);
  return out;
}

Result<std::vector<Ranked>> read_ranks(std::string_view file, std::string_view where) {
  std::vector<Ranked> tokens;
  for (std::size_t line = 1; !file.empty(); ++line) {
    const std::size_t end = std::min(file.find('\n'), file.size());
    std::string_view text = file.substr(0, end);
    file.remove_prefix(std::min(end + 1, file.size()));
    if (text.ends_with('\r')) text.remove_suffix(1);
    if (text.empty()) continue;
    Result<Ranked> token = read_line(text);
    if (!token.ok()) {
      return Error{ErrorCode::kCorrupt,
                   fmt::format("{}: line {} {}", where, line, token.error().message)};
    }
    tokens.push_back(std::move(token).value());
  }
  if (tokens.empty()) return Error{ErrorCode::kCorrupt, fmt::format("{}: holds no tokens", where)};
  return tokens;
}

// tiktoken merges the two neighbours whose bytes together have the lowest rank.
std::vector<BpeMerge> merges_of(const std::vector<Ranked>& tokens, const Vocabulary& vocabulary) {
  std::vector<BpeMerge> merges;
  for (const Ranked& token : tokens) {
    for (std::size_t i = 1; i < token.bytes.size(); ++i) {
      const std::optional<TokenId> left =
          vocabulary.id(spelled(std::string_view(token.bytes).substr(0, i)));
      const std::optional<TokenId> right =
          vocabulary.id(spelled(std::string_view(token.bytes).substr(i)));
      if (left && right)
        merges.push_back({*left, *right, token.rank, static_cast<std::uint32_t>(token.rank)});
    }
  }
  return merges;
}

Status fill(const std::vector<Ranked>& tokens, const TiktokenSettings& settings,
            TokenizerParts& parts) {
  for (const Ranked& token : tokens)
    PLUMB_TRY_STATUS(parts.model_vocabulary.add(spelled(token.bytes), token.rank));
  for (int byte = 0; byte < 256; ++byte) {
    const std::string piece = spelled(std::string(1, static_cast<char>(byte)));
    if (!parts.model_vocabulary.id(piece)) {
      return Error{ErrorCode::kCorrupt, fmt::format("lacks a token for the byte {}", byte)};
    }
  }
  PLUMB_TRY(parts.model, make_bpe(parts.model_vocabulary, merges_of(tokens, parts.model_vocabulary),
                                  {.unknown = std::nullopt,
                                   .continuing_subword_prefix = "",
                                   .end_of_word_suffix = "",
                                   .fuse_unknown = false,
                                   .byte_fallback = false,
                                   .ignore_merges = true}));
  PLUMB_TRY(parts.pre_tokenizer, make_splits({settings.pattern}, true));
  std::vector<AddedToken> special;
  for (const auto& [content, id] : settings.special_tokens) {
    special.push_back({id, content, false, false, false, false, true});
  }
  parts.decoder = make_byte_level_decoder();
  return parts.add_tokens(std::move(special));
}

}  // namespace

Result<Tokenizer> Tokenizer::from_tiktoken(std::string_view ranks, const TiktokenSettings& settings,
                                           std::string_view where) {
  PLUMB_TRY(const std::vector<Ranked> tokens, read_ranks(ranks, where));
  auto parts = std::make_unique<TokenizerParts>();
  if (Status filled = fill(tokens, settings, *parts); !filled.ok()) {
    return Error{filled.error().code, fmt::format("{}: {}", where, filled.error().message)};
  }
  return Tokenizer(std::move(parts));
}

bool is_tiktoken(std::string_view bytes) {
  constexpr std::size_t kLongestLine = 2048;
  const std::string_view line = bytes.substr(0, std::min(bytes.find('\n'), kLongestLine));
  return read_line(line).ok();
}

TiktokenSettings tiktoken_settings(const TokenizerConfig& config) {
  TiktokenSettings settings{gguf_pre_tokenizer("llama-bpe")->patterns.front(), {}};
  for (const TokenizerConfig::Token& token : config.added_tokens)
    settings.special_tokens.emplace_back(token.content, token.id);
  return settings;
}

}  // namespace plumb
