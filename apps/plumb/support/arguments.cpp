// The only file that knows CLI11. Each command is an application of its own: as subcommands of one, `plumb run show` would be
// the command show, not a prompt.
#include "support/arguments.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <limits>

namespace plumb {
namespace {

template <class T>
bool read_number(const std::string& text, T& value) {
  const char* const end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && stopped == end && !text.empty();
}

std::string allowed_integers(std::int64_t lowest, std::int64_t highest) {
  if (highest == std::numeric_limits<std::int64_t>::max()) return fmt::format("from {} up", lowest);
  return fmt::format("from {} to {}", lowest, highest);
}

// CLI11's words for a value that is missing or given twice, in ours.
std::string mismatch(const std::string& words) {
  const std::string name = words.substr(0, words.find(':'));
  if (words.find("missing") != std::string::npos) return name + " needs a value after it";
  if (words.find("At Most") != std::string::npos) return name + " is given more than once";
  return words;
}

// CLI11 takes "--stop=" for an option whose value is the next argument.
bool has_empty_value(std::string_view argument) {
  return argument.starts_with("--") && argument.find('=') == argument.size() - 1 &&
         argument.find(' ') == std::string_view::npos;
}

}  // namespace

struct Arguments::Impl {
  CLI::App app;
  std::string group = "Options";

  CLI::Option* add(CLI::Option* option, const std::string& what) {
    return option->group(group)->option_text(what);
  }
};

Arguments::Arguments(std::string_view command, std::string_view summary, std::string_view details)
    : impl_(std::make_unique<Impl>()) {
  CLI::App& app = impl_->app;
  app.name("plumb " + std::string(command));
  app.description(std::string(summary));
  app.footer(std::string(details));
  app.get_formatter()->column_width(26);
  app.set_help_flag("-h,--help", "Print this text");
}

Arguments::~Arguments() = default;

void Arguments::heading(std::string_view title) {
  impl_->group = title;
}

void Arguments::positional(const std::string& name, std::optional<std::string>& target,
                           const std::string& help) {
  impl_->app.add_option(name, target, help)->option_text(" ");
}

void Arguments::required(const std::string& name, std::string& target, const std::string& help) {
  impl_->app.add_option(name, target, help)->required()->option_text(" ");
}

void Arguments::several(const std::string& name, std::vector<std::string>& target,
                        const std::string& help) {
  impl_->app.add_option(name, target, help)->option_text("...");
}

void Arguments::flag(const std::string& name, bool& target, const std::string& help) {
  impl_->app.add_flag(name, target, help)->group(impl_->group)->disable_flag_override();
}

void Arguments::text(const std::string& name, const std::string& what,
                     std::optional<std::string>& target, const std::string& help) {
  impl_->add(impl_->app.add_option(name, target, help), what);
}

void Arguments::texts(const std::string& name, const std::string& what,
                      std::vector<std::string>& target, const std::string& help) {
  impl_->add(impl_->app.add_option(name, target, help), what)->allow_extra_args(false);
}

void Arguments::integer(const std::string& name, std::int64_t& target, std::int64_t lowest,
                        std::int64_t highest, const std::string& help) {
  const auto check = [lowest, highest](const std::string& text) {
    std::int64_t value = 0;
    const bool good = read_number(text, value) && value >= lowest && value <= highest;
    return good ? std::string()
                : fmt::format("must be a whole number {}, not '{}'",
                              allowed_integers(lowest, highest), text);
  };
  const auto fill = [&target](const std::string& text) { read_number(text, target); };
  CLI::Option* option = impl_->app.add_option_function<std::string>(name, fill, help);
  impl_->add(option, fmt::format("N [{}]", target))->check(CLI::Validator(check, ""));
}

void Arguments::number(const std::string& name, double& target, const std::string& help) {
  const auto check = [](const std::string& text) {
    double value = 0;
    return read_number(text, value) ? std::string()
                                    : fmt::format("must be a number, not '{}'", text);
  };
  const auto fill = [&target](const std::string& text) { read_number(text, target); };
  CLI::Option* option = impl_->app.add_option_function<std::string>(name, fill, help);
  impl_->add(option, fmt::format("X [{}]", target))->check(CLI::Validator(check, ""));
}

Result<bool> Arguments::parse(const std::vector<std::string>& arguments) {
  const auto help = [this] { return fmt::format("({} --help)", impl_->app.get_name()); };
  for (const std::string& argument : arguments) {
    if (argument == "--") break;
    if (!has_empty_value(argument)) continue;
    return Error{ErrorCode::kInvalidArgument, fmt::format("{} has no value {}", argument, help())};
  }
  std::vector<std::string> reversed(arguments.rbegin(),
                                    arguments.rend());  // CLI11 takes them from the back
  try {
    impl_->app.parse(std::move(reversed));
    return true;
  } catch (const CLI::CallForHelp&) {
    return false;
  } catch (const CLI::ExtrasError&) {
    const auto extra = impl_->app.remaining();
    const std::string first = extra.empty() ? "" : extra.front();
    const char* hint = first.starts_with("-") ? "; a text that begins with - goes after --" : "";
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("'{}' is not expected here{} {}", first, hint, help())};
  } catch (const CLI::ArgumentMismatch& error) {
    return Error{ErrorCode::kInvalidArgument, fmt::format("{} {}", mismatch(error.what()), help())};
  } catch (const CLI::ParseError& error) {
    return Error{ErrorCode::kInvalidArgument, fmt::format("{} {}", error.what(), help())};
  }
}

std::string Arguments::help() const {
  std::string text = impl_->app.help();
  // CLI11 leaves two empty lines between groups.
  for (std::size_t at = text.find("\n\n\n"); at != std::string::npos; at = text.find("\n\n\n", at))
    text.erase(at, 1);
  while (text.ends_with("\n\n"))
    text.pop_back();
  return text;
}

}  // namespace plumb
