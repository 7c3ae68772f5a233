// Shared options: prompts, as text or as ids.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "support/options.h"
#include "support/terminal.h"

namespace plumb {
namespace {

constexpr std::size_t kMaxTextBytes = std::size_t{1} << 28;

Error bad_id(const std::string& where, std::string_view id) {
  return {ErrorCode::kInvalidArgument,
          fmt::format("{}: '{}' is not an id, a whole number from 0 to {}", where, id.substr(0, 40),
                      std::numeric_limits<TokenId>::max())};
}

Result<std::vector<TokenId>> parse_json_ids(const std::string& text, const std::string& where) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  const nlohmann::json none;
  const nlohmann::json& list =
      json.is_object() ? (json.contains("ids") ? json["ids"] : none) : json;
  if (!list.is_array()) {
    return Error{ErrorCode::kInvalidArgument,
                 where + ": is neither a JSON list of ids nor an object with one as \"ids\""};
  }
  std::vector<TokenId> ids;
  for (const auto& item : list) {
    const bool fits = item.is_number_unsigned() &&
                      item.get<std::uint64_t>() <=
                          static_cast<std::uint64_t>(std::numeric_limits<TokenId>::max());
    if (!fits)
      return bad_id(where, item.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    ids.push_back(item.get<TokenId>());
  }
  return ids;
}

}  // namespace

void declare(Arguments& arguments, IdsOptions& options) {
  arguments.text("--ids", "1,2,3", options.ids, "Token ids, in place of text");
  arguments.text(
      "--ids-file", "FILE", options.file,
      "The same from a file, separated by commas or spaces, or as JSON; -: standard input");
}

void declare(Arguments& arguments, EncodingOptions& options) {
  arguments.flag("--parse-special", options.parse_special,
                 "Text that spells a special token, such as <|im_end|>, becomes that token");
  arguments.flag(
      "--no-bos", options.no_bos,
      "Leave out the special tokens that the tokenizer adds, such as one at the beginning");
}

void declare(Arguments& arguments, PromptOptions& options) {
  arguments.heading("Prompt");
  declare(arguments, options.ids);
  declare(arguments, options.encoding);
}

Result<std::vector<TokenId>> parse_ids(const std::string& text, const std::string& where) {
  constexpr std::string_view kSeparators = ", \t\r\n";
  const std::size_t start = text.find_first_not_of(kSeparators);
  if (start == std::string::npos)
    return Error{ErrorCode::kInvalidArgument, where + ": holds no ids"};
  if (text[start] == '[' || text[start] == '{') return parse_json_ids(text, where);
  std::vector<TokenId> ids;
  for (std::size_t at = start; at != std::string::npos;
       at = text.find_first_not_of(kSeparators, at)) {
    const std::size_t end = std::min(text.find_first_of(kSeparators, at), text.size());
    const std::string_view word(text.data() + at, end - at);
    TokenId id = 0;
    const auto [stopped, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc() || stopped != word.data() + word.size() || id < 0)
      return bad_id(where, word);
    ids.push_back(id);
    at = end;
  }
  return ids;
}

Result<std::vector<TokenId>> read_ids(const IdsOptions& options) {
  if (options.ids && options.file) {
    return Error{ErrorCode::kInvalidArgument, "--ids and --ids-file cannot be given together"};
  }
  if (options.ids) return parse_ids(*options.ids, "--ids");
  PLUMB_TRY(const std::string text, read_text(*options.file));
  return parse_ids(text, *options.file);
}

Result<std::vector<TokenId>> encode(const Tokenizer* tokenizer, const std::string& text,
                                    const EncodingOptions& options) {
  if (tokenizer == nullptr) {
    return Error{ErrorCode::kNotFound,
                 "the model has no tokenizer.json; give token ids by --ids or --ids-file"};
  }
  PLUMB_TRY(std::vector<TokenId> ids,
            tokenizer->encode(
                text, {.add_special = !options.no_bos, .parse_special = options.parse_special}));
  return ids;
}

bool fits_positions(const Model& model, std::size_t tokens) {
  return std::cmp_less_equal(tokens, model.config->max_position_embeddings);
}

void note_length(const Model& model, std::size_t tokens) {
  if (fits_positions(model, tokens)) return;
  print_note(fmt::format("{} tokens are more than the {} positions that the model was made for",
                         tokens, model.config->max_position_embeddings));
}

Result<Prompt> read_prompt(const std::optional<std::string>& text, const PromptOptions& options,
                           const Model& model) {
  Prompt prompt;
  if (options.ids.given()) {
    if (text) {
      return Error{ErrorCode::kInvalidArgument,
                   fmt::format("'{}' is a PROMPT, which cannot be given together with ids",
                               text->substr(0, 80))};
    }
    PLUMB_TRY(prompt.ids, read_ids(options.ids));
  } else {
    prompt.text = text;
    if (!text) {
      PLUMB_TRY(prompt.text, read_typed_text());
    }
    PLUMB_TRY(prompt.ids, encode(model.tokenizer.get(), *prompt.text, options.encoding));
  }
  if (prompt.ids.empty()) {
    return Error{ErrorCode::kInvalidArgument,
                 "the prompt is empty, and the tokenizer adds no token of its own"};
  }
  note_length(model, prompt.ids.size());
  return prompt;
}

Result<std::string> read_text(const std::string& path) {
  if (path == "-") return read_input(STDIN_FILENO, "standard input", kMaxTextBytes);
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    return Error{ErrorCode::kNotFound,
                 fmt::format("{}: cannot open: {}", path, std::generic_category().message(errno))};
  }
  Result<std::string> text = read_input(file, path, kMaxTextBytes);
  ::close(file);
  return text;
}

Result<std::string> read_typed_text() {
  PLUMB_TRY(std::string text, read_input(STDIN_FILENO, "standard input", kMaxTextBytes));
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  return text;
}

}  // namespace plumb
