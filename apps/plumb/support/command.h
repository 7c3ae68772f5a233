// Command: one of the program's commands. apps/plumb/NAME.cpp defines `Command NAME_command()`; no list is edited.
#pragma once
#include <functional>
#include <string_view>

#include "core/result.h"
#include "support/arguments.h"

namespace plumb {

inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;
inline constexpr int kInterrupted = 130;  // as shells report a program that SIGINT ended

struct Command {
  std::string_view name;
  int place;                 // its place in `plumb --help`, counted from 1
  std::string_view summary;  // one line there
  std::string_view details;  // what `plumb NAME --help` says below the options: examples, formats
  std::function<void(Arguments&)> declare;
  std::function<Result<int>()> execute;  // after declare's targets have been filled; the exit code
  int failed = kFailed;                  // the exit code of an error, its own or in its arguments
};

}  // namespace plumb
