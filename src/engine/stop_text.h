// StopText: lets text through up to the first of some texts to appear, and never shows a part of it, however the text is cut
// into pieces. What could still become one of them is held back.
//   StopText stop({"\n\n", "User:"});
//   show(stop.push("Hello\n"));  // "Hello"; the line's end waits
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

class StopText {
 public:
  explicit StopText(const std::vector<std::string>& texts);  // none of them empty

  // What may be shown now. Once a text has appeared, nothing more.
  std::string push(std::string_view piece);
  std::string finish();  // what was held back and is shown because nothing follows

  bool found() const { return found_; }

 private:
  // Knuth, Morris, Pratt: how much of `text` the end of the input matches.
  struct Matcher {
    std::string text;
    std::vector<std::size_t> fallback;
    std::size_t matched = 0;

    explicit Matcher(std::string value);
    void advance(char byte);
  };

  std::vector<Matcher> matchers_;
  std::string held_;
  bool found_ = false;
};

}  // namespace plumb
