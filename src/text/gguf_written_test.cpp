// Every tokenizer.json of tests/data as GGUF's own keys say it, read back without the embedded text: the ids of the fixture, but
// for the cases that are listed with the reason.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "io/config.h"
#include "io/gguf/pre_tokenizers.h"
#include "io/gguf/tokenizer_write.h"
#include "text/sentencepiece.h"
#include "text/tokenizer.h"

namespace plumb {
namespace {

using Ids = std::vector<TokenId>;

std::string read_text(const std::string& name) {
  std::ifstream file(PLUMB_SOURCE_DIR "/tests/data/tokenizers/" + name, std::ios::binary);
  EXPECT_TRUE(file) << name;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

Config config_of(int vocab_size) {
  auto config = Config::parse(
      R"({"model_type": "llama", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": )" +
          std::to_string(vocab_size) + "}",
      "config.json");
  EXPECT_TRUE(config.ok());
  EXPECT_TRUE(config.value().apply_defaults(R"({"rms_norm_eps": 1e-6, "rope_theta": 10000})").ok());
  return std::move(config).value();
}

constexpr int kVocabSize = 1700;

Result<GgufTokenizer> written(const std::string& folder) {
  return gguf_tokenizer_from_json(read_text(folder + "/tokenizer.json"), folder,
                                  config_of(kVocabSize));
}

struct Written {
  std::string model;
  std::string pre;
  std::set<std::string> other;  // cases whose ids GGUF cannot give
};

void expect_fixture(const std::string& folder, const Written& expected) {
  SCOPED_TRACE(folder);
  Result<GgufTokenizer> data = written(folder);
  ASSERT_TRUE(data.ok()) << data.error().message;
  EXPECT_EQ(data.value().model, expected.model);
  EXPECT_EQ(data.value().pre, expected.pre);
  EXPECT_EQ(data.value().tokens.size(), static_cast<std::size_t>(kVocabSize));
  const auto whole = Tokenizer::from_gguf(data.value(), folder);
  data.value().huggingface_json.clear();
  const auto keys = Tokenizer::from_gguf(data.value(), folder);
  ASSERT_TRUE(whole.ok()) << whole.error().message;
  ASSERT_TRUE(keys.ok()) << keys.error().message;
  std::set<std::string> other;
  const auto check = [&](const nlohmann::json& item, const char* key,
                         const EncodeOptions& options) {
    const std::string text = item.at("text");
    if (keys.value().encode(text, options).value() != item.at(key).get<Ids>())
      other.insert(item.at("name"));
  };
  for (const nlohmann::json& item : nlohmann::json::parse(read_text(folder + "/cases.json"))) {
    const std::string text = item.at("text");
    const bool decided_otherwise =
        item.at("name").get<std::string>().starts_with("rstrip over");  // fixtures_test.cpp
    if (!decided_otherwise) {
      EXPECT_EQ(whole.value().encode(text, {.add_special = true, .parse_special = true}).value(),
                item.at("ids_with_special").get<Ids>());
    }
    check(item, "ids", {.add_special = false, .parse_special = true});
    check(item, "ids_with_special", {.add_special = true, .parse_special = true});
    check(item, "ids_as_text", {.add_special = false, .parse_special = false});
    const Ids ids = item.at("ids").get<Ids>();
    if (keys.value().decode(ids, false).value() != item.at("decoded").get<std::string>())
      other.insert(item.at("name").get<std::string>() + " (decoded)");
  }
  EXPECT_EQ(other, expected.other);
}

TEST(GgufWritten, GivesTheIdsOfEveryFixture) {
  // lstrip, rstrip, single_word and normalized of added tokens have no key.
  const std::set<std::string> flags = {"own 10", "own 12", "own 13", "own 14", "own 15",
                                       "own 16", "own 19", "own 20", "own 21", "own 22",
                                       "own 24", "own 7",  "own 8",  "own 9"};
  // Metaspace puts no U+2581 before a text that begins with a space, nor, "first", after an added token; llama.cpp does both.
  const std::set<std::string> prefix = {"200 spaces",
                                        "200 spaces and a letter",
                                        "ascii",
                                        "chat markers",
                                        "leading and trailing spaces",
                                        "leading space",
                                        "one space",
                                        "other markers",
                                        "own 1",
                                        "own 2",
                                        "own 3",
                                        "seven spaces",
                                        "space digits",
                                        "three spaces",
                                        "two spaces"};
  // Added tokens of U+2581 are written as spaces, as llama.cpp does, and then do not match U+2581 in the text.
  const std::set<std::string> underscores = {"own 4", "underscores"};
  const std::map<std::string, Written> expected = {
      {"gpt2", {"gpt2", "gpt-2", {}}},
      {"llama3", {"gpt2", "llama-bpe", {}}},
      {"ignore_merges", {"gpt2", "llama-bpe", {}}},
      {"added_tokens", {"gpt2", "smaug-bpe", flags}},
      {"qwen2", {"gpt2", "qwen2", {}}},
      {"qwen35", {"gpt2", "qwen35", {}}},
      {"o200k", {"gpt2", "gpt-4o", {}}},
      {"deepseek_v3", {"gpt2", "deepseek-v3", {}}},
      {"digits_groups", {"gpt2", "falcon", {}}},
      {"llama2", {"llama", "default", {}}},
      {"llama2_metaspace", {"llama", "default", prefix}},
      {"gemma", {"llama", "default", underscores}},
  };
  for (const auto& [folder, what] : expected)
    expect_fixture(folder, what);
}

TEST(GgufWritten, RefusesWhatGgufCannotSay) {
  const auto normalizer = [](const std::string& type) {
    return "has the normalizer " + type + ", which GGUF cannot hold for this kind of tokenizer";
  };
  const std::string stages = "has a pre-tokenizer that no name in GGUF stands for";
  const std::string across =
      "cuts at each space and has the token \"\u2581\u2581\" across one, which GGUF cannot hold";
  const std::map<std::string, std::string> expected = {
      {"added_tokens_normalized", normalizer("Lowercase")},
      {"lowercase_strip", normalizer("NFKD")},
      {"strip_replace", normalizer("Strip")},
      {"prefix_space", stages},
      {"prefix_space_fused", stages},
      {"digits_punctuation", stages},
      {"metaspace_never", across},
      {"metaspace_always", across},
      {"unigram", normalizer("NFKC")},
      {"unigram_bytes", "is a Unigram model with byte fallback, which GGUF cannot hold"},
  };
  for (const auto& [folder, what] : expected) {
    const auto data = written(folder);
    ASSERT_FALSE(data.ok()) << folder;
    EXPECT_EQ(data.error().message, folder + ": " + what);
  }
}

TEST(GgufWritten, SentencePieceModelsKeepTheirIds) {
  for (const std::string folder : {"llama2", "gemma"}) {
    const auto model = read_sentencepiece(read_text(folder + "/tokenizer.model"), folder);
    ASSERT_TRUE(model.ok()) << model.error().message;
    const auto data =
        gguf_tokenizer_from_sentencepiece(model.value(), default_edges(model.value()), folder);
    ASSERT_TRUE(data.ok()) << data.error().message;
    const auto tokenizer = Tokenizer::from_gguf(data.value(), folder);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.error().message;
    for (const nlohmann::json& item : nlohmann::json::parse(read_text(folder + "/cases.json"))) {
      SCOPED_TRACE(folder + ": " + item.at("name").get<std::string>());
      const std::string text = item.at("text");
      EXPECT_EQ(
          tokenizer.value().encode(text, {.add_special = false, .parse_special = false}).value(),
          item.at("sentencepiece").get<Ids>());
    }
  }
}

// Each name's patterns as a tokenizer.json are written under a name that reads back as the same patterns.
TEST(GgufWritten, EveryNameOfAPreTokenizerIsFound) {
  int found = 0;
  for (const std::string_view name : gguf_pre_tokenizer_names()) {
    const GgufPreTokenizer& stages = *gguf_pre_tokenizer(name);
    if (stages.raw) continue;
    nlohmann::json json = nlohmann::json::parse(read_text("gpt2/tokenizer.json"));
    json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", nlohmann::json::array()}};
    for (const std::string& pattern : stages.patterns) {
      json["pre_tokenizer"]["pretokenizers"].push_back({{"type", "Split"},
                                                        {"pattern", {{"Regex", pattern}}},
                                                        {"behavior", "Isolated"},
                                                        {"invert", false}});
    }
    json["pre_tokenizer"]["pretokenizers"].push_back(
        {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}});
    json["model"]["ignore_merges"] = stages.ignore_merges;
    if (stages.nfc) json["normalizer"] = {{"type", "NFC"}};
    const auto data = gguf_tokenizer_from_json(json.dump(), "f", config_of(kVocabSize));
    ASSERT_TRUE(data.ok()) << name << ": " << data.error().message;
    const GgufPreTokenizer* read = gguf_pre_tokenizer(data.value().pre);
    ASSERT_NE(read, nullptr) << name;
    EXPECT_EQ(read->patterns, stages.patterns) << name;
    EXPECT_EQ(read->ignore_merges, stages.ignore_merges) << name;
    EXPECT_EQ(read->nfc, stages.nfc) << name;
    EXPECT_TRUE(Tokenizer::from_gguf(data.value(), "f").ok()) << name;
    ++found;
  }
  EXPECT_EQ(found, 86);
}

}  // namespace
}  // namespace plumb
