// plumb tokenize: text to ids.
#include "support/command.h"
#include "support/json.h"
#include "support/options.h"

namespace plumb {
namespace {

constexpr std::string_view kDetails = R"(Examples:
  plumb tokenize path/to/model "Hello, world"
  plumb tokenize path/to/model "<|im_start|>user" --parse-special
  plumb tokenize path/to/model --file book.txt > book.json

MODEL may also be a folder that holds nothing but a tokenizer, or the tokenizer's own file: a tokenizer.json, or a .model or
.tiktoken file, which is SentencePiece's or tiktoken's by its contents. Prints JSON, {"ids", "pieces"}; pieces are the
vocabulary's entries. A file's text is taken as it is; standard input loses one line end at its end.
)";

struct Options {
  std::string model;
  std::optional<std::string> text;
  std::optional<std::string> file;
  EncodingOptions encoding;
  bool json = false;
};

void declare_tokenize(Arguments& arguments, Options& options) {
  arguments.required("MODEL", options.model, "A folder or file");
  arguments.positional("TEXT", options.text, "The text; standard input when left out");
  arguments.text("--file", "FILE", options.file, "Read the text from a file; -: standard input");
  declare(arguments, options.encoding);
  arguments.flag("--json", options.json, "Print JSON, as it does anyway");
}

Result<std::string> read(const Options& options) {
  if (options.text && options.file) {
    return Error{ErrorCode::kInvalidArgument, "TEXT and --file cannot be given together"};
  }
  if (options.file) return read_text(*options.file);
  if (options.text) return *options.text;
  return read_typed_text();
}

Result<int> execute(const Options& options) {
  PLUMB_TRY(const auto tokenizer, open_tokenizer(options.model));
  PLUMB_TRY(const std::string text, read(options));
  PLUMB_TRY(const std::vector<TokenId> ids, encode(tokenizer.get(), text, options.encoding));
  Json pieces = Json::array();
  for (const TokenId id : ids) {
    const auto piece = tokenizer->piece(id);
    pieces.push_back(piece ? Json(*piece) : Json());
  }
  PLUMB_TRY_STATUS(print_json({{"ids", ids}, {"pieces", std::move(pieces)}}));
  return kDone;
}

}  // namespace

Command tokenize_command() {
  const auto options = std::make_shared<Options>();
  return {.name = "tokenize",
          .place = 3,
          .summary = "Turn text into token ids",
          .details = kDetails,
          .declare = [options](Arguments& arguments) { declare_tokenize(arguments, *options); },
          .execute = [options] { return execute(*options); }};
}

}  // namespace plumb
