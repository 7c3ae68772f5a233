#include "parity/chat_prompt.h"

#include <algorithm>

namespace plumb {
namespace {

constexpr std::string_view kBlank = " \t\r\n";
// A role's words have some tens of bytes. What is longer is no constant that prompts of any length are searched for.
constexpr std::size_t kLongestConstant = 1024;

std::string_view without_end(std::string_view text) {
  const auto last = text.find_last_not_of(kBlank);
  return last == std::string_view::npos ? std::string_view() : text.substr(0, last + 1);
}

std::size_t skip_blank(std::string_view text, std::size_t at) {
  while (at < text.size() && kBlank.find(text[at]) != std::string_view::npos)
    ++at;
  return at;
}

// The string literal at `at`, which is left behind it; nothing where there is none.
std::optional<std::string> literal(std::string_view source, std::size_t& at) {
  if (at >= source.size() || (source[at] != '\'' && source[at] != '"')) return std::nullopt;
  const char quote = source[at];
  std::string text;
  for (std::size_t i = at + 1; i < source.size(); ++i) {
    if (source[i] == quote) {
      at = i + 1;
      return text;
    }
    if (source[i] != '\\' || i + 1 == source.size()) {
      text += source[i];
      continue;
    }
    const char escaped = source[++i];
    text += escaped == 'n' ? '\n' : escaped == 't' ? '\t' : escaped == 'r' ? '\r' : escaped;
  }
  return std::nullopt;
}

// The literal that `{{ 'literal' }}` at `at` prints; nothing where something else stands there, or more than it. `at` is left behind it.
std::optional<std::string> printed(std::string_view source, std::size_t& at) {
  if (source.substr(at, 2) != "{{") return std::nullopt;
  at += 2;
  if (at < source.size() && (source[at] == '-' || source[at] == '+')) ++at;
  at = skip_blank(source, at);
  auto text = literal(source, at);
  at = skip_blank(source, at);
  if (at < source.size() && source[at] == '-') ++at;
  if (source.substr(at, 2) != "}}") return std::nullopt;
  at += 2;
  return text;
}

// Whether what was printed up to `at` is all that its `if` prints.
bool ends_block(std::string_view source, std::size_t at) {
  const bool taken = at >= 3 && source.substr(at - 3, 3) == "-}}";  // the blanks behind it are
  std::size_t tag = skip_blank(source, at);
  if (source.substr(tag, 2) != "{%") return false;
  const bool stripped = source.substr(tag, 3) == "{%-";
  if (tag != at && !taken && !stripped) return false;
  tag = skip_blank(source, tag + (stripped ? 3 : 2));
  if (source.substr(tag, 5) != "endif") return false;
  const auto end = source.find("%}", tag);
  // Behind it another block may print: none but the end, and blanks, is certain.
  return end != std::string_view::npos && skip_blank(source, end + 2) == source.size();
}

// The tags of a template, from its beginning: each byte is looked at once, however many tags and texts a stranger puts there.
class Tags {
 public:
  explicit Tags(std::string_view source) : source_(source), next_(source.find("{%")) {}

  // Whether what stands at `at` is printed where a conversation has no system text of its own: behind an `else`, or a test that says so. `at`
  // is never before that of an earlier call.
  bool without_system(std::size_t at) {
    if (next_ >= at) return without_;
    std::size_t tag = next_;
    for (; next_ < at; next_ = source_.find("{%", next_ + 2))
      tag = next_;
    if (end_ < tag + 2) end_ = source_.find("%}", tag + 2);
    const std::string_view inside = source_.substr(tag + 2, std::min(end_, at) - tag - 2);
    const auto word = inside.find_first_not_of("-+ \n");
    const bool otherwise = word != std::string_view::npos && inside.substr(word).starts_with("else");
    without_ = otherwise || inside.find("!= 'system'") != std::string_view::npos || inside.find("!= \"system\"") != std::string_view::npos;
    return without_;
  }

 private:
  std::string_view source_;
  std::size_t next_;         // the first tag that no call has reached
  std::size_t end_ = 0;      // of the tag before it
  bool without_ = false;     // what that tag says
};

}  // namespace

TemplateConstants read_template(std::string_view source) {
  TemplateConstants constants;
  // The last block of its own `if add_generation_prompt`: earlier ones are about tools or single messages.
  constexpr std::string_view kAsked = "if add_generation_prompt";
  if (const auto asked = source.rfind(kAsked); asked != std::string_view::npos) {
    std::size_t at = skip_blank(source, asked + kAsked.size());
    if (at < source.size() && source[at] == '-') ++at;
    if (source.substr(at, 2) == "%}") {
      at = skip_blank(source, at + 2);
      constants.answer = printed(source, at).value_or("");
      constants.answer_ends = !constants.answer.empty() && ends_block(source, at);
    }
    if (constants.answer.size() > kLongestConstant) constants.answer.clear();
  }
  Tags tags(source);
  // A system text that is printed whole: its first line names the role, the rest are words.
  for (auto at = source.find("{{"); at != std::string_view::npos; at = source.find("{{", at + 2)) {
    std::size_t end = at;
    const auto text = printed(source, end);
    const auto line = text ? text->find('\n') : std::string::npos;
    if (line == std::string::npos || line < 6 || line >= kLongestConstant || text->compare(line - 6, 6, "system") != 0 || !tags.without_system(at)) continue;
    const std::string_view words = without_end(std::string_view(*text).substr(line + 1));
    if (words.find(' ') != std::string_view::npos && words.front() != '#') constants.system_header = text->substr(0, line + 1);
  }
  return constants;
}

std::optional<PromptFault> judge_rendered(const TemplateConstants& constants, std::string_view rendered, std::string_view said) {
  constexpr std::size_t kShortest = 3;
  if (!constants.system_header.empty() && rendered.find(constants.system_header) == std::string_view::npos)
    return PromptFault{"the rendered prompt lacks the template's system text", constants.system_header};
  const std::string& answer = constants.answer;
  if (without_end(answer).size() < kShortest) return std::nullopt;
  said.remove_prefix(said.size() - std::min(said.size(), kLongestConstant));  // their end tells where they end
  const auto words = said.empty() ? std::string_view::npos : rendered.rfind(said);
  const std::string_view rest = words == std::string_view::npos ? rendered : rendered.substr(words + said.size());
  const auto begins = rest.rfind(answer);
  if (begins != std::string_view::npos) {
    // Words behind it are an answer that was begun (a prefill); blanks alone are nobody's words.
    const std::string_view more = rest.substr(begins + answer.size());
    if (constants.answer_ends && !more.empty() && more.find_first_not_of(kBlank) == std::string_view::npos)
      return PromptFault{"blanks stand behind the words that begin an answer", answer};
    return std::nullopt;
  }
  if (rest.ends_with(without_end(answer)))
    return PromptFault{"the rendered prompt's last line break is lost: the answer begins elsewhere", answer};
  return PromptFault{"the rendered prompt ends without the words that begin an answer (add_generation_prompt)", answer};
}

}  // namespace plumb
