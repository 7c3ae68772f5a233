// The turns of a rendered prompt against the chat template's own words: headers and their roles, what ends what a user says, marks of another
// model's template. Without rendering: templates are programs (Jinja), whose string literals tell how turns begin and end.
#pragma once
#include <functional>
#include <optional>
#include <string_view>

#include "parity/chat_prompt.h"

namespace plumb {

// `source` is the template, `said` the user's words ("" when not known), `is_token` whether a text is an entry of the vocabulary. Nothing where no
// fault is seen.
std::optional<PromptFault> judge_turns(const TemplateConstants& constants, std::string_view source, std::string_view rendered,
                                       std::string_view said, const std::function<bool(std::string_view)>& is_token);

}  // namespace plumb
