// Rows 1, 2, 3, 4 and 6 (token ids), 2 and 5 (the rendered prompt) of docs/causes.md.
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <span>

#include "engine/tokenizer_file.h"
#include "parity/chat_prompt.h"
#include "parity/chat_turns.h"
#include "parity/rung_results.h"
#include "parity/rungs.h"

namespace plumb {
namespace {

using Ids = std::vector<std::int32_t>;

// Templates trim what users say.
std::string trimmed(const std::string& text) {
  constexpr std::string_view kBlank = " \t\r\n";
  const auto first = text.find_first_not_of(kBlank);
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

Ids encoded(const Tokenizer& tokenizer, std::string_view text, bool add_special, bool parse_special) {
  auto ids = tokenizer.encode(text, {.add_special = add_special, .parse_special = parse_special});
  return ids.ok() ? std::move(ids).value() : Ids{};
}

// The id that the tokenizer puts before every text; nothing where it puts none.
std::optional<std::int32_t> beginning_of(const Tokenizer& tokenizer) {
  const Ids with = encoded(tokenizer, "a", true, false);
  const Ids without = encoded(tokenizer, "a", false, false);
  if (with.size() <= without.size() || with.empty() || (!without.empty() && with.front() == without.front())) return std::nullopt;
  return with.front();
}

std::int64_t count(const Ids& ids) {
  return std::ssize(ids);
}

// The first id, where it is this one, left out.
Ids without(const Ids& ids, std::optional<std::int32_t> first) {
  const bool has = first && !ids.empty() && ids.front() == *first;
  return {ids.begin() + (has ? 1 : 0), ids.end()};
}

// The text with a space more or less before it or behind each special token, as `ids` has them, where that gives the ids seen. `body` is what of a
// list of ids is compared.
template <typename Body>
bool differs_by_spaces(const Tokenizer& tokenizer, const std::string& text, bool add_special, const Ids& ids, const Ids& seen, const Body& body) {
  std::set<std::string> specials;
  for (const std::int32_t id : ids) {
    const auto word = tokenizer.is_special(id) ? tokenizer.decode(std::span(&id, 1), false) : Result<std::string>(std::string());
    if (word.ok() && !word.value().empty() && text.find(word.value()) != std::string::npos) specials.insert(word.value());
  }
  std::vector<std::string> others{" " + text};
  if (text.starts_with(' ')) others.push_back(text.substr(1));
  for (const bool more : {true, false}) {
    std::string other = text;
    for (const std::string& word : specials) {
      for (std::size_t at = other.find(word); at != std::string::npos; at = other.find(word, at + word.size())) {
        const std::size_t behind = at + word.size();
        if (more && behind < other.size()) other.insert(behind, 1, ' ');
        if (!more && behind < other.size() && other[behind] == ' ') other.erase(behind, 1);
      }
    }
    others.push_back(std::move(other));
  }
  return std::ranges::any_of(others, [&](const std::string& other) {
    return other != text && body(encoded(tokenizer, other, add_special, true)) == seen;
  });
}

// The lists that a right engine may feed, the reference's first.
std::vector<Ids> right_ids(const Model& model, const TraceManifest& manifest, const std::string& source, bool right_text) {
  const Tokenizer& tokenizer = *model.tokenizer;
  const auto begin = beginning_of(tokenizer);
  std::vector<Ids> right;
  if (!manifest.rendered) {
    const std::string& text = *manifest.prompt;
    const std::string answer = read_template(source).answer;
    right.push_back(encoded(tokenizer, text, true, true));
    const Ids bare = encoded(tokenizer, text, false, true);
    if (begin && !bare.empty() && bare.front() == *begin) right.push_back(bare);
    // A text that begins an answer as the chat template does was rendered: its special tokens are no words of a user.
    if (answer.empty() || !text.ends_with(answer)) right.push_back(encoded(tokenizer, text, true, false));
    return right;
  }
  const std::string& text = *manifest.rendered;
  Ids ids = encoded(tokenizer, text, false, true);
  const bool begins = begin && !ids.empty() && ids.front() == *begin;
  if (begin && !begins && right_text) {
    const auto word = tokenizer.piece(*begin);
    const bool printed = source.find("bos_token") != std::string::npos || (word && source.find(*word) != std::string::npos);
    Ids more{*begin};
    more.insert(more.end(), ids.begin(), ids.end());
    if (printed || source.empty()) right.push_back(std::move(more));
    if (!printed) right.push_back(ids);
  } else {
    right.push_back(ids);
  }
  // What a user spells is text to a careful engine, even where it is a special token's.
  const std::string said = trimmed(manifest.prompt.value_or(""));
  const auto at = said.empty() ? std::string::npos : text.rfind(said);
  if (at != std::string::npos) {
    Ids mixed = encoded(tokenizer, text.substr(0, at), false, true);
    for (const auto& [piece, parse] : {std::pair(said, false), std::pair(text.substr(at + said.size()), true)}) {
      const Ids part = encoded(tokenizer, piece, false, parse);
      mixed.insert(mixed.end(), part.begin(), part.end());
    }
    if (right.front() != ids) mixed.insert(mixed.begin(), *begin);
    right.push_back(std::move(mixed));
  }
  return right;
}

Finding cut_as_words(const Ids& right, const Ids& seen) {
  const auto differ = std::mismatch(seen.begin(), seen.end(), right.begin(), right.end());
  const auto at = [](const auto& place, const Ids& ids) { return place != ids.end() ? FieldValue(std::int64_t{*place}) : FieldValue(); };
  return rung_finding("token_ids", "3", "special tokens that the text spells are cut as if they were words", at(differ.second, right),
                      at(differ.first, seen));
}

// How the ids seen differ from the right ones, the token that begins texts aside.
class Difference {
 public:
  Difference(const Model& model, const TraceManifest& manifest, const Ids& right, const Ids& seen, std::int64_t offset)
      : tokenizer_(*model.tokenizer), manifest_(manifest), right_(right), seen_(seen), offset_(offset) {}

  template <typename Body>
  Finding finding(const Body& body) const {
    const std::string& text = manifest_.rendered ? *manifest_.rendered : *manifest_.prompt;
    const bool add_special = !manifest_.rendered.has_value();
    const auto differ = std::mismatch(seen_.begin(), seen_.end(), right_.begin(), right_.end());
    const std::int64_t same = differ.first - seen_.begin();
    const std::int64_t shorter = std::min(count(seen_), count(right_));
    const auto ends = std::mismatch(seen_.rbegin(), seen_.rend(), right_.rbegin(), right_.rend());
    const std::int64_t same_behind = std::min(ends.first - seen_.rbegin(), shorter - same);
    const bool lost = count(seen_) < count(right_) && same + same_behind == count(seen_);
    if (lost && (same == 0 || same_behind == 0)) return counted("6", "the prompt was cut");
    if (differs_by_spaces(tokenizer_, text, add_special, right_, seen_, body)) {
      Finding spaces = counted("4", "a space is added before the text or behind a special token, or lost there");
      spaces.also = {"3"};
      return spaces;
    }
    if (lost)
      return counted("6", fmt::format("{} of the prompt {} lost from token {} on", tokens(count(right_) - count(seen_)),
                                      count(right_) - count(seen_) == 1 ? "is" : "are", offset_ + same));
    if (count(seen_) > count(right_) && same + same_behind == count(right_)) return inserted(same, same_behind == 0);
    return other_tokens(same);
  }

 private:
  static std::string tokens(std::int64_t number) { return fmt::format("{} token{}", number, number == 1 ? "" : "s"); }

  Finding counted(std::string row, std::string cause) const {
    return rung_finding("token_ids", std::move(row), std::move(cause), count(right_) + offset_, count(seen_) + offset_);
  }

  // What stands at `at` that the text does not have.
  Finding inserted(std::int64_t at, bool at_the_end) const {
    const std::int64_t more = count(seen_) - count(right_);
    const auto first = seen_.begin() + at;
    const bool again = at >= more && std::equal(first, first + more, first - more);
    std::string cause = fmt::format("{} stand{} at token {} that the text does not have", tokens(more), more == 1 ? "s" : "", offset_ + at);
    if (again) cause = fmt::format("{} before token {} {} fed twice", tokens(more), offset_ + at, more == 1 ? "is" : "are");
    if (at_the_end && tokenizer_.is_special(*first)) cause = "a special token is appended to the prompt";
    Finding result = rung_finding("token_ids", "3", std::move(cause), std::monostate{}, std::int64_t{*first});
    if (!again) result.also = {"5"};
    return result;
  }

  Finding other_tokens(std::int64_t place) const {
    const auto at = [&](const Ids& ids) {
      return place < count(ids) ? FieldValue(std::int64_t{ids[static_cast<std::size_t>(place)]}) : FieldValue();
    };
    const auto spelled = tokenizer_.decode(seen_, false);
    const auto meant = tokenizer_.decode(right_, false);
    const bool same_text = spelled.ok() && meant.ok() && spelled.value() == meant.value();
    std::string cause = fmt::format("the text falls into other tokens, from token {} on", offset_ + place);
    if (same_text) cause += ": they spell the same text";
    else cause += ": they spell another text";
    Finding result = rung_finding("token_ids", "3", std::move(cause), at(right_), at(seen_));
    if (!same_text) result.also = {"4", "5"};
    return result;
  }

  const Tokenizer& tokenizer_;
  const TraceManifest& manifest_;
  const Ids& right_;
  const Ids& seen_;
  std::int64_t offset_;  // tokens before these, which were judged by themselves
};

}  // namespace

TraceManifest with_rendered(const Model& model, TraceManifest manifest) {
  if (manifest.rendered || !manifest.prompt || model.tokenizer == nullptr) return manifest;
  const Tokenizer& tokenizer = *model.tokenizer;
  const std::string said = trimmed(*manifest.prompt);
  const auto text = tokenizer.decode(manifest.token_ids, false);
  if (said.empty() || !text.ok() || encoded(tokenizer, text.value(), false, true) != manifest.token_ids) return manifest;
  const auto at = text.value().rfind(said);
  const auto source = load_chat_template(model.path);
  if (at == std::string::npos || !source.ok() || source.value().empty()) return manifest;
  const auto begin = beginning_of(tokenizer);
  // On either side there must be what templates print: special tokens, besides the one that begins every text, or words of the template itself.
  const auto of_a_template = [&](const std::string& side) {
    const Ids ids = without(encoded(tokenizer, side, false, true), begin);
    const std::string words = trimmed(side);
    const bool special = std::ranges::any_of(ids, [&](std::int32_t id) { return tokenizer.is_special(id); });
    return special || (words.size() > 2 && source.value().find(words) != std::string::npos);
  };
  if (of_a_template(text.value().substr(0, at)) && of_a_template(text.value().substr(at + said.size()))) manifest.rendered = text.value();
  return manifest;
}

RungResult check_prompt(const Model& model, const TraceManifest& manifest) {
  constexpr const char* kRung = "prompt";
  if (!manifest.prompt && !manifest.rendered) return unseen_rung(kRung, "the trace has no prompt");
  if (!manifest.rendered)
    return unseen_rung(kRung, "the trace says of no chat template: the ids are judged against the prompt as it is");
  const std::string& rendered = *manifest.rendered;
  const std::string said = trimmed(manifest.prompt.value_or(""));
  if (rendered.find(said) == std::string::npos)
    return wrong_rung(kRung, rung_finding("prompt", "5", "the rendered prompt does not hold the prompt's words", std::int64_t{1}, std::int64_t{0}));
  if (model.tokenizer != nullptr) {
    const auto ids = model.tokenizer->encode(rendered, {.add_special = false, .parse_special = true});
    if (!ids.ok()) return unseen_rung(kRung, "the rendered prompt is not valid UTF-8");
    const auto& list = ids.value();
    if (list.size() > 1 && list[0] == list[1] && model.tokenizer->is_special(list[0]))
      return wrong_rung(kRung, rung_finding("prompt", "2", "the rendered prompt begins with the same special token twice",
                                            std::int64_t{1}, std::int64_t{2}));
  }
  const auto source = load_chat_template(model.path);
  if (!source.ok()) return unseen_rung(kRung, "the checkpoint's chat template could not be read: " + source.error().message);
  const TemplateConstants constants = read_template(source.value());
  const auto is_token = [&](std::string_view text) { return model.tokenizer != nullptr && model.tokenizer->id(text).has_value(); };
  auto fault = source.value().empty() ? std::nullopt : judge_turns(constants, source.value(), rendered, said, is_token);
  if (!fault) fault = judge_rendered(constants, rendered, said);
  if (fault)
    return wrong_rung(kRung, rung_finding("prompt", "5", fault->cause, fault->expected.empty() ? FieldValue() : FieldValue(fault->expected),
                                          std::monostate{}));
  std::string why = manifest.prompt ? "the rendered prompt holds the prompt's words" : "the trace has a rendered prompt";
  if (!constants.answer.empty()) why += " and begins an answer as the checkpoint's chat template does";
  if (!constants.system_header.empty()) why += ", and has a system text";
  return unseen_rung(kRung, why + "; whether the rest is what the template says was not observed: a trace does not hold the messages");
}

RungResult check_token_ids(const Model& model, const TraceManifest& manifest, bool right_text) {
  constexpr const char* kRung = "token ids";
  if (!manifest.prompt && !manifest.rendered) return unseen_rung(kRung, "the trace has no prompt");
  if (model.tokenizer == nullptr) return unseen_rung(kRung, "the checkpoint has no tokenizer");
  const Tokenizer& tokenizer = *model.tokenizer;
  if (!tokenizer.encode(manifest.rendered ? *manifest.rendered : *manifest.prompt, {.add_special = false, .parse_special = true}).ok())
    return unseen_rung(kRung, "the prompt is not valid UTF-8");
  const auto source = load_chat_template(model.path);
  const std::vector<Ids> right = right_ids(model, manifest, source.ok() ? source.value() : "", right_text);
  const Ids& seen = manifest.token_ids;
  if (std::ranges::find(right, seen) != right.end())
    return right_rung(kRung, fmt::format("the {} ids are those that the checkpoint's tokenizer gives for the {}", seen.size(),
                                         manifest.rendered ? "rendered prompt" : "prompt"));
  const Ids& expected = right.front();
  const std::string& text = manifest.rendered ? *manifest.rendered : *manifest.prompt;
  const Ids as_words = encoded(tokenizer, text, !manifest.rendered, false);
  if (seen == as_words && as_words != encoded(tokenizer, text, !manifest.rendered, true)) return wrong_rung(kRung, cut_as_words(expected, seen));
  const bool suffix = seen.size() < expected.size() && std::equal(seen.rbegin(), seen.rend(), expected.rbegin());
  auto begin = beginning_of(tokenizer);
  if (!begin && !expected.empty() && tokenizer.is_special(expected.front())) {  // a template's own
    const Ids rest(expected.begin() + 1, expected.end());
    if (seen == rest || (!seen.empty() && seen.front() == expected.front() && Ids(seen.begin() + 1, seen.end()) == expected)) begin = expected.front();
  }
  const bool begins = begin && !expected.empty() && expected.front() == *begin;
  const bool has = !seen.empty() && begin && seen.front() == *begin;
  std::vector<Finding> findings;
  std::int64_t judged = 0;  // of the first ids seen
  if (begins && !has && (!suffix || seen.size() + 1 == expected.size())) {
    const bool in_place = !seen.empty() && std::equal(seen.begin() + 1, seen.end(), expected.begin() + 1, expected.end());
    const bool special = !seen.empty() && tokenizer.is_special(seen.front()) && (expected.size() < 2 || seen.front() != expected[1]);
    const bool another = in_place || special;
    judged = another ? 1 : 0;
    findings.push_back(rung_finding("token_ids", "1",
                                    another ? "another token stands in the place of the beginning-of-sequence token"
                                            : "the beginning-of-sequence token is missing",
                                    std::int64_t{expected[0]}, another ? FieldValue(std::int64_t{seen.front()}) : FieldValue()));
  } else if (has && (begins ? seen.size() > 1 && seen[1] == *begin && (expected.size() < 2 || expected[1] != *begin) : true)) {
    judged = begins ? 2 : 1;
    findings.push_back(rung_finding("token_ids", "2",
                                    begins ? "the beginning-of-sequence token is there twice"
                                           : "a beginning-of-sequence token is added that the rendered prompt does not have",
                                    count(expected), count(seen)));
  } else if (begins && has) {
    judged = 1;
  }
  const auto body = [&](const Ids& ids) { return begins ? without(ids, begin) : ids; };
  const Ids own(seen.begin() + judged, seen.end());
  const Ids theirs = body(expected);
  if (own != theirs) findings.push_back(Difference(model, manifest, theirs, own, judged).finding(body));
  return {{kRung, RungVerdict::kFault, findings.front().cause}, std::move(findings)};
}

}  // namespace plumb
