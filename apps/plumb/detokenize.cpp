// plumb detokenize: ids to text.
#include "support/command.h"
#include "support/json.h"
#include "support/options.h"
#include "support/terminal.h"

namespace plumb {
namespace {

constexpr std::string_view kDetails = R"(Examples:
  plumb detokenize path/to/model --ids 1,450,7483
  plumb tokenize path/to/model "Hello" | plumb detokenize path/to/model --ids-file -

Prints the text and nothing after it; --json prints {"text"}. Bytes that are no UTF-8 become U+FFFD.
)";

struct Options {
  std::string model;
  IdsOptions ids;
  bool skip_special = false;
  bool json = false;
};

void declare_detokenize(Arguments& arguments, Options& options) {
  arguments.required("MODEL", options.model, "A folder or file");
  declare(arguments, options.ids);
  arguments.flag("--skip-special", options.skip_special, "Leave special tokens out of the text");
  arguments.flag("--json", options.json, "Print JSON");
}

Result<int> execute(const Options& options) {
  if (!options.ids.given()) {
    return Error{ErrorCode::kInvalidArgument,
                 "--ids or --ids-file is required (plumb detokenize --help)"};
  }
  PLUMB_TRY(const auto tokenizer, open_tokenizer(options.model));
  PLUMB_TRY(const std::vector<TokenId> ids, read_ids(options.ids));
  PLUMB_TRY(std::string text, tokenizer->decode(ids, options.skip_special));
  if (options.json) {
    PLUMB_TRY_STATUS(print_json({{"text", text}}));
  } else {
    if (output_is_terminal()) text += '\n';
    PLUMB_TRY_STATUS(print(text));
  }
  return kDone;
}

}  // namespace

Command detokenize_command() {
  const auto options = std::make_shared<Options>();
  return {.name = "detokenize",
          .place = 4,
          .summary = "Turn token ids into text",
          .details = kDetails,
          .declare = [options](Arguments& arguments) { declare_detokenize(arguments, *options); },
          .execute = [options] { return execute(*options); }};
}

}  // namespace plumb
