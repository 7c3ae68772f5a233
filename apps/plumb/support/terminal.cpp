// POSIX: sigaction(2), write(2), read(2), isatty(3).
#include "support/terminal.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <system_error>

#include "support/command.h"

namespace plumb {
namespace {

// What the signal handler shares with the program. Lock-free atomics are all that a handler may touch.
std::atomic<bool> g_cancellable{false};
std::atomic<bool> g_interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free);

bool g_progress_shown = false;

void on_interrupt(int /*signal*/) {
  if (!g_cancellable) ::_exit(kInterrupted);
  g_interrupted = true;
}

Status write_all(int file, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(file, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EPIPE)
      return Error{ErrorCode::kCancelled, "nobody reads the output"};
    if (written < 0) {
      return Error{ErrorCode::kInvalidArgument,
                   "cannot write to standard output: " + std::generic_category().message(errno)};
    }
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

// Standard error may be closed: what it cannot take is lost, and there is nowhere to say so.
void write_line(std::string line) {
  clear_progress();
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  static_cast<void>(write_all(STDERR_FILENO, line + "\n"));
}

}  // namespace

void handle_signals() {
  struct sigaction action {};
  action.sa_handler = on_interrupt;  // NOLINT(cppcoreguidelines-pro-type-union-access)
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  ::sigaction(SIGINT, &action, nullptr);
  ::signal(SIGPIPE,
           SIG_IGN);  // NOLINT(cert-err33-c,performance-no-int-to-ptr): cannot fail for this signal
}

bool interrupted() {
  return g_interrupted;
}

Cancellable::Cancellable() {
  g_cancellable = true;
}
Cancellable::~Cancellable() {
  g_cancellable = false;
}

Status print(std::string_view text) {
  clear_progress();
  return write_all(STDOUT_FILENO, text);
}

void print_error(std::string_view message) {
  write_line(fmt::format("plumb: {}", message));
}
void print_note(std::string_view message) {
  write_line(fmt::format("plumb: note: {}", message));
}
void print_statistics(std::string_view message) {
  write_line(fmt::format("[{}]", message));
}

void show_progress(std::string_view message) {
  if (::isatty(STDERR_FILENO) == 0) return;
  g_progress_shown = true;
  static_cast<void>(write_all(STDERR_FILENO, fmt::format("\r\033[K{}", message)));
}

void clear_progress() {
  if (!g_progress_shown) return;
  g_progress_shown = false;
  static_cast<void>(write_all(STDERR_FILENO, "\r\033[K"));
}

bool output_is_terminal() {
  return ::isatty(STDOUT_FILENO) != 0;
}

Result<std::string> read_input(int file, std::string_view where, std::size_t limit_bytes) {
  if (::isatty(file) != 0) print_note("reading the text from the terminal; Ctrl-D ends it");
  std::string text;
  std::array<char, 65536> buffer{};
  while (true) {
    const ssize_t count = ::read(file, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      return Error{
          ErrorCode::kInvalidArgument,
          fmt::format("{}: cannot read: {}", where, std::generic_category().message(errno))};
    }
    if (count == 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(count));
    if (text.size() > limit_bytes) {
      return Error{ErrorCode::kInvalidArgument,
                   fmt::format("{}: holds more than {} bytes", where, limit_bytes)};
    }
  }
}

}  // namespace plumb
