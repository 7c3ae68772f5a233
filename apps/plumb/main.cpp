// plumb: the command line. Finds the command, reads its options, runs it, and turns what came out into an exit code.
#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "support/command.h"
#include "support/terminal.h"

namespace plumb {

#include "commands.inc"

namespace {

constexpr std::string_view kHelp =
    R"(Plumb runs large language models on this machine, and computes what the reference implementation computes.

  plumb run "The capital of France is"           the built-in model goes on
  plumb run path/to/model "Once upon a time"     a model from a folder (config.json, tokenizer.json, *.safetensors)
  plumb run path/to/model < prompt.txt           the prompt from standard input
  plumb logits path/to/model "Hello" --top 5     what the model expects after each token
  plumb tokenize path/to/model "Hello"           the ids that it sees
  plumb show path/to/model                       how it is built: every stage with every convention

Commands:
)";

constexpr std::string_view kHelpEnd = R"(
Each has examples and all its options in plumb COMMAND --help. What prints data prints JSON with --json; errors are one
sentence on standard error. Exit codes: 0 done, 1 error, 130 interrupted; of compare
and diagnose: 0 agree, 1 differ, 2 not answered.
)";

std::vector<Command> commands() {
  std::vector<Command> all;
  for (const auto make : kCommands)
    all.push_back(make());
  std::sort(all.begin(), all.end(),
            [](const Command& a, const Command& b) { return a.place < b.place; });
  return all;
}

std::string help() {
  std::string text(kHelp);
  for (const Command& command : commands())
    text += fmt::format("  {:<12} {}\n", command.name, command.summary);
  return text.append(kHelpEnd);
}

Result<int> carry_out(const Command& command, const std::vector<std::string>& rest) {
  Arguments arguments(command.name, command.summary, command.details);
  command.declare(arguments);
  PLUMB_TRY(const bool proceed, arguments.parse(rest));
  if (proceed) return command.execute();
  PLUMB_TRY_STATUS(print(arguments.help()));
  return kDone;
}

// `failed` becomes the exit code that the command has for errors.
Result<int> dispatch(std::vector<std::string> arguments, int& failed) {
  if (arguments.size() > 1 && arguments[0] == "help") arguments = {arguments[1], "--help"};
  const std::string name = arguments.empty() ? "--help" : arguments[0];
  if (name == "--help" || name == "-h" || name == "help") {
    PLUMB_TRY_STATUS(print(help()));
    return kDone;
  }
  if (name == "--version") {
    PLUMB_TRY_STATUS(print("plumb " PLUMB_VERSION "\n"));
    return kDone;
  }
  const std::vector<Command> all = commands();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const Command& c) { return c.name == name; });
  if (found != all.end()) {
    failed = found->failed;
    return carry_out(*found, {arguments.begin() + 1, arguments.end()});
  }
  std::string known;
  for (const Command& command : all)
    known += (known.empty() ? "" : ", ") + std::string(command.name);
  return Error{ErrorCode::kInvalidArgument,
               fmt::format("'{}' is not a command; there are {} (plumb --help)", name, known)};
}

int exit_code(const Result<int>& result, int failed) {
  if (result.ok()) return result.value();
  // Cancelled by Ctrl-C, or because the reader of the output has gone: neither needs words.
  if (result.error().code == ErrorCode::kCancelled) return interrupted() ? kInterrupted : kDone;
  print_error(result.error().message);
  return failed;
}

}  // namespace
}  // namespace plumb

int main(int argc, char** argv) {
  int failed = plumb::kFailed;
  try {
    plumb::handle_signals();
    const auto result = plumb::dispatch({argv + std::min(argc, 1), argv + argc}, failed);
    return plumb::exit_code(result, failed);
  } catch (const std::bad_alloc&) {
    plumb::print_error("there is not enough memory");
  } catch (const std::exception& error) {
    plumb::print_error(fmt::format("internal error: {}", error.what()));
  }
  return failed;
}
