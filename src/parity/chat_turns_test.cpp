// The turns of rendered prompts, against what Jinja made of 51 public templates (../shared/fixtures/templates): none that its own template rendered
// is at fault; most are with another role, without the end of a turn, or rendered by another template.
#include "parity/chat_turns.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

namespace plumb {
namespace {

constexpr std::string_view kTemplate =
    "{%- for message in messages %}{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}";

std::string cause_of(std::string_view source, const std::string& rendered, const std::string& said = "Hello there") {
  const auto fault = judge_turns(read_template(source), source, rendered, said, [](std::string_view text) { return text == "<|im_pad|>"; });
  return fault ? fault->cause : "";
}

TEST(ChatTurns, NamesWhatIsNotTheTemplates) {
  const std::string answer = "<|im_start|>assistant\n";
  const std::string right = "<|im_start|>user\nHello there<|im_end|>\n" + answer;
  EXPECT_EQ(cause_of(kTemplate, right), "");
  EXPECT_EQ(cause_of(kTemplate, "<|im_start|>tool\n46<|im_end|>\n" + right + "<think>\n\n</think>\n\n"), "");
  EXPECT_EQ(cause_of(kTemplate, "<|im_pad|>" + right), "");
  EXPECT_NE(cause_of(kTemplate, "<|im_start|>human\nHello there<|im_end|>\n" + answer).find("role that the chat template does not know: human"),
            std::string::npos);
  EXPECT_NE(cause_of(kTemplate, "<|im_start|>user Hello there<|im_end|>\n" + answer).find("header does not end"), std::string::npos);
  EXPECT_NE(cause_of(kTemplate, "<|im_start|>user\nHello there\n" + answer).find("what ends a turn"), std::string::npos);
  EXPECT_NE(cause_of(kTemplate, "<|im_start|>user\n" + right + "<|im_end|>\n" + answer).find("applied twice"), std::string::npos);
  EXPECT_NE(cause_of(kTemplate, "<|a|>user<|b|>\nHello there<|c|>").find("another model's chat template"), std::string::npos);
  EXPECT_NE(cause_of(kTemplate, "### Instruction:\nHello there\n\n### Response:\n").find("another model's chat template"), std::string::npos);
  // What a user says is no mark.
  EXPECT_EQ(cause_of(kTemplate, "<|im_start|>user\nWhat is <|eot_id|> [INST]?<|im_end|>\n" + answer, "What is <|eot_id|> [INST]?"), "");
}

TEST(ChatTurns, BlanksBehindTheAnswer) {
  const TemplateConstants constants = read_template(kTemplate);
  EXPECT_TRUE(constants.answer_ends);
  EXPECT_FALSE(read_template("{% if add_generation_prompt %}{{ '<a>' }}\n{% endif %}").answer_ends);
  EXPECT_FALSE(read_template("{% if add_generation_prompt %}{{ '<a>' }}{% if thinking %}{{ '\\n' }}{% endif %}{% endif %}").answer_ends);
  const std::string right = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n";
  EXPECT_FALSE(judge_rendered(constants, right, "Hello").has_value());
  EXPECT_FALSE(judge_rendered(constants, right + "Yes ", "Hello").has_value());
  EXPECT_TRUE(judge_rendered(constants, right + " ", "Hello").has_value());
  EXPECT_TRUE(judge_rendered(constants, right + "\n", "Hello").has_value());
}

std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string replaced(std::string text, std::string_view what, std::string_view with) {
  const auto at = text.find(what);
  return at == std::string::npos ? text : text.replace(at, what.size(), with);
}

TEST(ChatTurns, PublicTemplates) {
  const std::filesystem::path folder = std::filesystem::path(PLUMB_SHARED_DIR) / "fixtures" / "templates";
  if (!std::filesystem::exists(folder)) {
    ASSERT_EQ(std::getenv("CI"), nullptr) << folder << " is not there";
    GTEST_SKIP() << "not run: " << folder << " is not there";
  }
  std::map<std::string, std::pair<std::string, std::string>> first;  // by template: what a user said first, rendered
  std::map<std::string, std::string> sources;
  int right = 0;
  int roles = 0;
  int roles_named = 0;
  const auto no_token = [](std::string_view) { return false; };
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".jinja") continue;
    const std::string source = text_of(entry.path());
    const TemplateConstants constants = read_template(source);
    auto cases = entry.path();
    cases.replace_extension(".json");
    for (const auto& one : nlohmann::json::parse(text_of(cases))) {
      if (!one["rendered"].is_string() || one.value("continue_final_message", false)) continue;
      const auto& context = one["context"];
      if (!context.contains("messages") || context["messages"].empty() || !context.value("add_generation_prompt", false)) continue;
      const auto& last = context["messages"].back();
      if (last.value("role", "") != "user" || !last["content"].is_string() || last["content"].get<std::string>().size() < 4) continue;
      std::string words = last["content"];
      words = words.substr(0, words.find_last_not_of(" \t\r\n") + 1);
      const std::string rendered = one["rendered"];
      // Token texts that these templates are given with their conversations.
      const std::string begins = context.value("bos_token", "");
      const std::string ends = context.value("eos_token", "");
      const auto is_token = [&](std::string_view text) { return text == begins || text == ends; };
      const auto fault = judge_turns(constants, source, rendered, words, is_token);
      EXPECT_FALSE(fault.has_value()) << entry.path().stem() << " " << one["name"] << ": " << fault->cause << " (" << fault->expected << ")\n" << rendered;
      const auto blanks = judge_rendered(constants, rendered, words);
      EXPECT_FALSE(blanks.has_value()) << entry.path().stem() << " " << one["name"] << ": " << blanks->cause << "\n" << rendered;
      ++right;
      const auto at = rendered.rfind(words);
      const std::string other = at == std::string::npos ? rendered : replaced(rendered, "user", "human");
      if (other != rendered && other.find("human") < other.rfind(words)) {
        ++roles;
        roles_named += judge_turns(constants, source, other, words, is_token).has_value() ? 1 : 0;
      }
      if (!first.contains(entry.path().stem())) first[entry.path().stem()] = {words, rendered};
    }
    sources[entry.path().stem()] = source;
  }
  int foreign = 0;
  int foreign_named = 0;
  for (const auto& [name, source] : sources) {
    for (const auto& [other, said] : first) {
      if (other == name || sources[other] == source) continue;
      const TemplateConstants constants = read_template(source);
      ++foreign;
      foreign_named += judge_turns(constants, source, said.second, said.first, no_token) || judge_rendered(constants, said.second, said.first) ? 1 : 0;
    }
  }
  std::printf("%d right prompts; of %d with another role %d named; of %d rendered by another template %d named\n", right, roles, roles_named, foreign,
              foreign_named);
  EXPECT_GE(right, 500);
  EXPECT_GE(roles_named, roles / 5);
  EXPECT_GE(foreign_named, foreign * 4 / 5);
}

}  // namespace
}  // namespace plumb
