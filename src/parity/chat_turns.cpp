#include "parity/chat_turns.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <set>
#include <string>
#include <vector>

namespace plumb {
namespace {

constexpr std::string_view kBlank = " \t\r\n";
constexpr std::size_t kLongestRole = 32;
// Of one prompt, which a stranger wrote: what follows is of the same kinds.
constexpr std::size_t kMostMarks = 4096;
constexpr std::size_t kMostKinds = 64;

// Roles that conversations have, whatever the template.
constexpr std::string_view kRoles[] = {"system", "user", "assistant", "tool", "developer", "model", "ipython", "function", "observation", "environment"};

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-';
}

std::size_t skip_blank(std::string_view text, std::size_t at) {
  return std::min(text.find_first_not_of(kBlank, at), text.size());
}

// How a turn begins: "<|im_start|>", the role, "\n".
struct Header {
  std::string_view before;
  std::string_view role;  // of an answer
  std::string_view after;
};

// Of the words that begin an answer; nothing where they are not of that form, or too short to be looked for.
std::optional<Header> header_of(std::string_view answer) {
  constexpr std::size_t kShortest = 4;
  for (const std::string_view role : {"assistant", "model"}) {
    const auto at = answer.find(role);
    if (at == std::string_view::npos) continue;
    const Header header{answer.substr(0, at), role, answer.substr(at + role.size())};
    const bool tail = std::ranges::any_of(header.after, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 && c != '_'; });
    const std::string_view closing = header.after.substr(0, header.after.find_first_of(kBlank));
    if (header.before.size() >= kShortest && !header.after.empty() && (!tail || closing.ends_with('>'))) return header;
  }
  return std::nullopt;
}

// Whether the template itself names a role, as a literal of its own.
bool names_role(std::string_view source, std::string_view role) {
  for (auto at = source.find(role); at != std::string_view::npos; at = source.find(role, at + role.size())) {
    const char left = at > 0 ? source[at - 1] : ' ';
    const char right = at + role.size() < source.size() ? source[at + role.size()] : ' ';
    if (!is_word(left) && !is_word(right)) return true;
  }
  return false;
}

bool is_role(std::string_view source, const Header& header, std::string_view role) {
  if (role == "assistant" && header.role != role) return false;  // Gemma's is "model"
  return std::ranges::find(kRoles, role) != std::end(kRoles) || names_role(source, role);
}

// Marks with which a template delimits: "<|im_end|>", "[INST]". From `at`, where one begins; empty where none does.
std::string_view mark_at(std::string_view text, std::size_t at) {
  constexpr std::size_t kLongest = 48;
  constexpr std::array<std::string_view, 7> kWhole = {"[INST]", "[/INST]", "<<SYS>>", "<start_of_turn>", "<end_of_turn>", "### Instruction:", "### Response:"};
  for (const std::string_view mark : kWhole) {
    if (text.substr(at).starts_with(mark)) return mark;
  }
  // "<|name|>", with wide bars as well, and Gemma's "<|name>" and "<name|>".
  constexpr std::string_view kWide = "\uFF5C";
  const std::string_view rest = text.substr(at, kLongest);
  const auto end = rest.find('>');
  if (!rest.starts_with('<') || end == std::string_view::npos) return {};
  std::string_view inside = rest.substr(1, end - 1);
  const std::size_t whole = inside.size();
  for (const std::string_view bar : {std::string_view("|"), kWide}) {
    if (inside.starts_with(bar)) inside.remove_prefix(bar.size());
    if (inside.ends_with(bar)) inside.remove_suffix(bar.size());
  }
  const bool name = std::ranges::all_of(inside, [](char c) { return is_word(c) || static_cast<unsigned char>(c) >= 0x80; });
  if (name && !inside.empty() && inside.size() < whole) return rest.substr(0, end + 1);
  return {};
}

bool has_marks(std::string_view text) {
  for (auto at = text.find_first_of("<[#"); at != std::string_view::npos; at = text.find_first_of("<[#", at + 1)) {
    if (!mark_at(text, at).empty()) return true;
  }
  return false;
}

// The literal at `at`, without escapes; nothing where there is none.
std::string_view plain_literal(std::string_view source, std::size_t at) {
  if (at >= source.size() || (source[at] != '\'' && source[at] != '"')) return {};
  const auto end = source.find(source[at], at + 1);
  return end == std::string_view::npos ? std::string_view() : source.substr(at + 1, end - at - 1);
}

// The marks that a template prints right behind a message's content; empty where something else than one known mark may stand there.
std::vector<std::string_view> ends_of_content(std::string_view source) {
  constexpr std::string_view kContent = "content";
  std::vector<std::string_view> ends;
  for (auto at = source.find(kContent); at != std::string_view::npos; at = source.find(kContent, at + kContent.size())) {
    if (at > 0 && is_word(source[at - 1])) continue;
    std::size_t next = at + kContent.size();
    if (next < source.size() && is_word(source[next])) continue;
    while (next < source.size() && std::string_view("'\"])").find(source[next]) != std::string_view::npos)
      ++next;
    next = skip_blank(source, next);
    for (const std::string_view way : {"| trim", "|trim", ".strip()", "| string", "|string"}) {
      if (source.substr(next).starts_with(way)) next = skip_blank(source, next + way.size());
    }
    while (next < source.size() && source[next] == ')')
      next = skip_blank(source, next + 1);
    std::string_view printed;
    if (next < source.size() && (source[next] == '+' || source[next] == '~')) {
      printed = plain_literal(source, skip_blank(source, next + 1));
      if (printed.empty()) return {};
    } else if (source.substr(next).starts_with("}}") || source.substr(next).starts_with("-}}")) {
      next = source.find("}}", next) + 2;
      printed = source.substr(next, source.find('{', next) - next);
      if (printed.find_first_not_of(kBlank) == std::string_view::npos && source.substr(next + printed.size()).starts_with("{{")) {
        std::size_t inside = next + printed.size() + 2;
        if (inside < source.size() && source[inside] == '-') ++inside;
        printed = plain_literal(source, skip_blank(source, inside));
      }
    } else {
      continue;  // compared, assigned, asked for its type
    }
    if (const std::string_view mark = mark_at(printed, skip_blank(printed, 0)); !mark.empty()) ends.push_back(mark);
    else return {};
  }
  return ends;
}

std::optional<PromptFault> judge_headers(const Header& header, std::string_view source, std::string_view rendered, std::size_t words,
                                         std::size_t words_end) {
  const std::string expected = std::string(header.before) + "…" + std::string(header.after);
  std::size_t marks = 0;
  std::set<std::string_view> seen;  // roles, with what follows them
  std::size_t behind = std::string_view::npos;  // the last header's end
  for (auto at = rendered.find(header.before); at != std::string_view::npos && ++marks < kMostMarks; at = rendered.find(header.before, at + 1)) {
    if (at >= words && at < words_end) continue;
    // A prompt that was rendered before brings its beginning along.
    const std::string_view again = behind < at ? mark_at(rendered, behind) : std::string_view();
    const bool nothing = at == behind || (!again.empty() && behind + again.size() == at && rendered.starts_with(again));
    if (nothing) return PromptFault{"the chat template is applied twice: a turn begins where another has just begun", expected};
    const std::size_t from = at + header.before.size();
    const std::size_t length = rendered.substr(from, kLongestRole + header.after.size()).find(header.after);
    const bool closed = length != std::string_view::npos;
    const std::string_view role = closed ? rendered.substr(from, length) : std::string_view();
    const bool one_word = closed && !role.empty() && std::ranges::all_of(role, is_word);
    const std::string_view near = rendered.substr(from, kLongestRole);
    const std::string_view word = near.substr(0, static_cast<std::size_t>(std::ranges::find_if_not(near, is_word) - near.begin()));
    const std::size_t word_end = from + word.size();
    if (!seen.insert(rendered.substr(from, word.size() + 1)).second) {
      behind = closed ? from + length + header.after.size() : std::string_view::npos;
      continue;
    }
    if (seen.size() > kMostKinds) break;
    if (one_word && !is_role(source, header, role))
      return PromptFault{"a turn has a role that the chat template does not know: " + std::string(role), expected};
    // A role with more behind it (a name, a channel) is the template's to say.
    if (!one_word && is_role(source, header, word) && word_end < rendered.size() && !header.after.starts_with(rendered[word_end]) &&
        kBlank.find(rendered[word_end]) != std::string_view::npos && source.find(std::string(word) + rendered[word_end]) == std::string_view::npos)
      return PromptFault{"a turn's header does not end as in the chat template", expected};
    behind = closed ? from + length + header.after.size() : std::string_view::npos;
  }
  return std::nullopt;
}

// Of marks outside of the prompt's words none is the template's own, and one is no token, or two are tokens that it does not print. Where its own
// stand there, others are quoted in earlier turns.
std::optional<PromptFault> judge_marks(std::string_view source, std::string_view rendered, std::size_t words, std::size_t words_end,
                                       const std::function<bool(std::string_view)>& is_token) {
  std::set<std::string_view> seen;
  std::string_view foreign;
  std::size_t tokens = 0;
  std::size_t marks = 0;
  for (auto at = rendered.find_first_of("<[#"); at != std::string_view::npos && marks < kMostMarks; at = rendered.find_first_of("<[#", at + 1)) {
    if (at >= words && at < words_end) continue;
    const std::string_view mark = mark_at(rendered, at);
    if (mark.empty()) continue;
    ++marks;
    if (!seen.insert(mark).second) continue;
    if (seen.size() > kMostKinds) break;
    if (source.find(mark) != std::string_view::npos) return std::nullopt;
    const bool token = is_token(mark);
    tokens += token ? 1 : 0;
    if (!token || tokens == 2) foreign = mark;
  }
  if (foreign.empty()) return std::nullopt;
  return PromptFault{"the rendered prompt is of another model's chat template: this one does not print " + std::string(foreign), ""};
}

}  // namespace

std::optional<PromptFault> judge_turns(const TemplateConstants& constants, std::string_view source, std::string_view rendered,
                                       std::string_view said, const std::function<bool(std::string_view)>& is_token) {
  const auto found = said.empty() ? std::string_view::npos : rendered.rfind(said);
  const std::size_t words = found == std::string_view::npos ? rendered.size() : found;
  const std::size_t words_end = found == std::string_view::npos ? rendered.size() : found + said.size();
  // Where an answer begins as the template says, or the template delimits by words, marks are quoted.
  const std::string_view answer = constants.answer;
  const bool answered = !answer.empty() && rendered.find(answer.substr(0, answer.find_last_not_of(kBlank) + 1)) != std::string_view::npos;
  if (!answered && has_marks(source)) {
    if (auto fault = judge_marks(source, rendered, words, words_end, is_token)) return fault;
  }
  const auto header = header_of(constants.answer);
  if (!header) return std::nullopt;
  if (auto fault = judge_headers(*header, source, rendered, words, words_end)) return fault;
  if (found == std::string_view::npos) return std::nullopt;
  const auto ends = ends_of_content(source);
  const std::string_view rest = rendered.substr(skip_blank(rendered, words_end));
  const bool ended = std::ranges::any_of(ends, [&](std::string_view end) { return rest.starts_with(end); });
  // Where the words stand in the middle of a turn, other words of it follow.
  const bool turn_begins = rest.starts_with(header->before);
  if (!ends.empty() && !ended && turn_begins)
    return PromptFault{"what ends a turn in the chat template is lost behind the prompt's words", std::string(ends.front())};
  return std::nullopt;
}

}  // namespace plumb
