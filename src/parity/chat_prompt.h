// What a chat template says of every prompt that it renders, without rendering: the literal with which an answer begins, and the system text that
// stands where a conversation has none. Templates are programs (Jinja); these two are constants in nearly all of them.
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace plumb {

struct TemplateConstants {
  std::string answer;  // printed first where add_generation_prompt is true: "<|im_start|>assistant\n"; "" when it is no constant
  bool answer_ends = false;   // nothing else may be printed behind it
  std::string system_header;  // of a system text that is a constant: "<|im_start|>system\n"; "" when there is none
};

TemplateConstants read_template(std::string_view source);

struct PromptFault {
  std::string cause;
  std::string expected;
};

// What the rendered text lacks of the template's constants. `said` are the user's words, "" when not known.
std::optional<PromptFault> judge_rendered(const TemplateConstants& constants, std::string_view rendered, std::string_view said);

}  // namespace plumb
