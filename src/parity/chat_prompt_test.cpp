// The constants of chat templates, against what Jinja made of 51 public templates (../shared/fixtures/templates): a prompt that was rendered by
// the template lacks none of them, one without add_generation_prompt does.
#include "parity/chat_prompt.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

namespace plumb {
namespace {

constexpr std::string_view kQwen =
    "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}{%- else %}\n"
    "    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{%- endif %}{%- for message in messages %}…{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n";
constexpr std::string_view kBefore = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n";

std::string cause_of(const std::string& rendered) {
  const auto fault = judge_rendered(read_template(kQwen), rendered, "Hello");
  return fault ? fault->cause : "";
}

TEST(ChatPrompt, ReadsTheConstants) {
  const TemplateConstants constants = read_template(kQwen);
  EXPECT_EQ(constants.answer, "<|im_start|>assistant\n");
  EXPECT_EQ(constants.system_header, "<|im_start|>system\n");
  EXPECT_EQ(read_template("{% if add_generation_prompt %}{{ name + ':' }}{% endif %}").answer, "");
  EXPECT_EQ(read_template("{% if add_generation_prompt %}{{ 'open").answer, "");
  EXPECT_EQ(read_template("{{ 'a\\").system_header, "");
}

TEST(ChatPrompt, NamesWhatIsMissing) {
  const std::string before(kBefore);
  EXPECT_EQ(cause_of(before + "<|im_start|>assistant\n"), "");
  EXPECT_EQ(cause_of(before + "<|im_start|>assistant\n<think>\n"), "");
  EXPECT_NE(cause_of(before + "<|im_start|>assistant").find("line break is lost"), std::string::npos);
  EXPECT_NE(cause_of(before).find("add_generation_prompt"), std::string::npos);
  EXPECT_NE(cause_of("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n").find("system text"), std::string::npos);
  // An earlier answer is not this one's beginning.
  EXPECT_NE(cause_of("<|im_start|>system\nx<|im_end|>\n<|im_start|>assistant\nHi<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"), "");
}

std::string repeated(const std::string& text, std::size_t bytes) {
  std::string all;
  while (all.size() < bytes)
    all += text;
  return all;
}

// As large as a file may be: what looked again at all that came before would take hours.
TEST(ChatPrompt, AStrangersTemplateIsReadOnce) {
  constexpr std::size_t kBytes = std::size_t{16} << 20;
  const std::string text = "{{ 'system\nBe brief.' }}";
  EXPECT_EQ(read_template("{% else %}" + text).system_header, "system\n");
  EXPECT_EQ(read_template(repeated(text, kBytes)).system_header, "");
  EXPECT_EQ(read_template("{% else %}" + repeated(text, kBytes)).system_header, "system\n");
  EXPECT_EQ(read_template("{% else " + repeated(text, kBytes)).system_header, "system\n");
  EXPECT_EQ(read_template(repeated("{% if x " + text, kBytes)).system_header, "");
  const std::string many = repeated("a", kBytes);
  EXPECT_EQ(read_template("{% if add_generation_prompt %}{{ '" + many + "' }}").answer, "");
  EXPECT_EQ(read_template("{% else %}{{ '" + many + "system\nBe brief.' }}").system_header, "");
  const auto fault = judge_rendered({.answer = "<assistant>", .system_header = ""}, many, many.substr(many.size() / 2) + "b");
  ASSERT_TRUE(fault.has_value());
  EXPECT_NE(fault->cause.find("add_generation_prompt"), std::string::npos);
}

std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(ChatPrompt, PublicTemplates) {
  const std::filesystem::path folder = std::filesystem::path(PLUMB_SHARED_DIR) / "fixtures" / "templates";
  if (!std::filesystem::exists(folder)) {
    ASSERT_EQ(std::getenv("CI"), nullptr) << folder << " is not there";
    GTEST_SKIP() << "not run: " << folder << " is not there";
  }
  int right = 0;
  int answers = 0;
  int named = 0;
  int systems = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".jinja") continue;
    const TemplateConstants constants = read_template(text_of(entry.path()));
    answers += constants.answer.empty() ? 0 : 1;
    systems += constants.system_header.empty() ? 0 : 1;
    auto cases = entry.path();
    cases.replace_extension(".json");
    for (const auto& one : nlohmann::json::parse(text_of(cases))) {
      if (!one["rendered"].is_string() || one.value("continue_final_message", false)) continue;
      const auto& context = one["context"];
      if (!context.contains("messages") || context["messages"].empty()) continue;
      const auto& last = context["messages"].back();
      if (last.value("role", "") != "user" || !last["content"].is_string() || last["content"].get<std::string>().size() < 4) continue;
      const std::string rendered = one["rendered"];
      const auto fault = judge_rendered(constants, rendered, last["content"].get<std::string>());
      if (context.value("add_generation_prompt", false)) {
        EXPECT_FALSE(fault.has_value()) << entry.path().stem() << " " << one["name"] << ": " << fault->cause << " (" << fault->expected << ")\n"
                                        << rendered;
        ++right;
      } else if (fault) {
        ++named;
      }
    }
  }
  std::printf("%d right prompts; %d templates with a constant answer, %d with a constant system text; %d prompts without an answer named\n",
              right, answers, systems, named);
  EXPECT_GE(right, 500);
  EXPECT_GE(answers, 20);
  EXPECT_GE(named, 15);
}

}  // namespace
}  // namespace plumb
