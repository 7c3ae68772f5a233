// What the program says and hears: standard output, notes on standard error, standard input, and Ctrl-C.
#pragma once
#include <string>
#include <string_view>

#include "core/result.h"

namespace plumb {

// Ctrl-C ends the program with exit code 130. While a Cancellable lives it only raises interrupted(), once: the second
// Ctrl-C kills. A closed pipe becomes an error of print() instead of a signal.
void handle_signals();
bool interrupted();

class Cancellable {
 public:
  Cancellable();
  ~Cancellable();
  Cancellable(const Cancellable&) = delete;
  Cancellable& operator=(const Cancellable&) = delete;
};

// Writes to standard output at once. kCancelled: nobody reads it any more, and the program is to end without a word.
Status print(std::string_view text);

// A line on standard error. Control characters, which file names and files may hold, are replaced.
void print_error(std::string_view message);       // "plumb: …"
void print_note(std::string_view message);        // "plumb: note: …"
void print_statistics(std::string_view message);  // "[…]"

// One line that is overwritten by the next; nothing unless standard error is a terminal.
void show_progress(std::string_view message);
void clear_progress();

bool output_is_terminal();

// All that a descriptor yields; an error when it is more than `limit_bytes`. `where` names it in errors.
Result<std::string> read_input(int file, std::string_view where, std::size_t limit_bytes);

}  // namespace plumb
