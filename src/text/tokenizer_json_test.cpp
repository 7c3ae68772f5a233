// What tokenizer.json files with faults are answered with: one sentence that names the place.
#include <gtest/gtest.h>

#include <string>

#include "text/tokenizer.h"

namespace plumb {
namespace {

std::string answer(std::string_view json) {
  const Result<Tokenizer> tokenizer = Tokenizer::from_json(json, "t.json");
  return tokenizer.ok() ? "loaded" : tokenizer.error().message;
}

std::string with_model(const std::string& model) {
  return R"({"model": )" + model + "}";
}

std::string with_member(const std::string& member) {
  return R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}, )" +
         member + "}";
}

TEST(TokenizerJson, LoadsTheSmallest) {
  const Result<Tokenizer> tokenizer =
      Tokenizer::from_json(with_member(R"("version": "1.0")"), "t.json");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.error().message;
  EXPECT_EQ(tokenizer.value().encode("abba", {.add_special = true, .parse_special = true}).value(),
            (std::vector<TokenId>{2, 1, 0}));
}

struct Fault {
  std::string json;
  std::string message;
};

TEST(TokenizerJson, NamesTheFault) {
  const Fault kFaults[] = {
      {"", "t.json: not JSON: Empty: no JSON found"},
      {"[1, 2",
       "t.json: not JSON: The JSON document has an improper structure: missing or "
       "superfluous commas, "
       "braces, missing keys, etc."},
      {"[]", "t.json: must be an object, not an array"},
      {"{}", "t.json: lacks \"model\""},
      {with_model("7"), "t.json: model must be an object, not an integer"},
      {with_model(R"({"type": "Neural"})"), "t.json: model has the unknown type \"Neural\""},
      {with_model(R"({"type": "BPE"})"), "t.json: model lacks \"vocab\""},
      {with_model(R"({"type": "BPE", "type": "BPE", "vocab": {}, "merges": []})"),
       "t.json: model has the key \"type\" twice"},
      {with_model(R"({"type": "BPE", "vocab": ["a"], "merges": []})"),
       "t.json: model.vocab must be an object, not an array"},
      {with_model(R"({"type": "BPE", "vocab": {"a": "0"}, "merges": []})"),
       "t.json: model.vocab[\"a\"] must be an integer, not a string"},
      {with_model(R"({"type": "BPE", "vocab": {"a": -1}, "merges": []})"),
       "t.json: model.vocab[\"a\"] is -1, outside 0 to 2147483647"},
      {with_model(R"({"type": "BPE", "vocab": {"a": 18446744073709551615}, "merges": []})"),
       "t.json: model.vocab[\"a\"] must be an integer of at most 2147483647"},
      {with_model(R"({"type": "BPE", "vocab": {"a": 1e300}, "merges": []})"),
       "t.json: model.vocab[\"a\"] must be an integer, not a fraction"},
      {with_model(R"({"type": "BPE", "vocab": {"a": 0, "a": 1}, "merges": []})"),
       "t.json: model.vocab: the token \"a\" is there twice, with the ids 0 and 1"},
      {with_model(R"({"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []})"),
       "t.json: the tokens \"a\" and \"b\" share the id 0"},
      {with_model(R"({"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]})"),
       "t.json: model.merges[0] names \"b\", which is not in the vocabulary"},
      {with_model(R"({"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "a"]]})"),
       "t.json: model.merges[0] names \"aa\", which is not in the vocabulary"},
      {with_model(R"({"type": "BPE", "vocab": {"a": 0}, "merges": [["a"]]})"),
       "t.json: model.merges[0] must be two pieces, as an array or with one space between them"},
      {with_model(R"({"type": "BPE", "vocab": {"a": 0}, "merges": ["a  a"]})"),
       "t.json: model.merges[0] must be two pieces, as an array or with one space between them"},
      {with_model(R"({"type": "BPE", "vocab": {"a": 0, "aa": 1}, "merges": ["a a", "a a"]})"),
       "t.json: model.merges cannot be used: merge 1 is there twice"},
      {with_model(R"({"type": "BPE", "vocab": {"a": 0}, "merges": [], "unk_token": "?"})"),
       "t.json: model has the unk_token \"?\", which is not in the vocabulary"},
      {with_model(R"({"type": "BPE", "vocab": {"a": 0}, "merges": [], "dropout": 0.1})"),
       "t.json: model.dropout asks for random merges, which have no one answer"},
      {with_model(R"({"type": "BPE", "vocab": {"a": 0}, "merges": [], "fuse_unk": 1})"),
       "t.json: model.fuse_unk must be a boolean, not an integer"},
      {with_member(R"("normalizer": {"type": "Rot13"})"),
       "t.json: normalizer has the unknown normalizer \"Rot13\""},
      {with_member(R"("normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {}]})"),
       "t.json: normalizer.normalizers[1] lacks \"type\""},
      {with_member(R"("pre_tokenizer": {"type": "Magic"})"),
       "t.json: pre_tokenizer has the unknown pre-tokenizer \"Magic\""},
      {with_member(
           R"("pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(?<=a)b"}, "behavior": "Isolated"})"),
       "t.json: pre_tokenizer.pattern: pattern \"(?<=a)b\", byte 1: this kind of group is not "
       "supported"},
      {with_member(
           R"("pre_tokenizer": {"type": "Split", "pattern": {"String": "a"}, "behavior": "Odd"})"),
       "t.json: pre_tokenizer has the unknown behavior \"Odd\""},
      {with_member(R"("post_processor": {"type": "Odd"})"),
       "t.json: post_processor has the unknown post-processor \"Odd\""},
      {with_member(
           R"("post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}],
                     "special_tokens": {"x": {"ids": [9]}}})"),
       "t.json: post_processor names the id 9, which no token has"},
      {with_member(
           R"("post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "B"}}]})"),
       "t.json: post_processor.single[0].Sequence names the sequence \"B\", not A"},
      {with_member(R"("decoder": {"type": "Odd"})"),
       "t.json: decoder has the unknown decoder \"Odd\""},
      {with_member(R"("decoder": {"type": "Strip", "content": " ", "start": -1, "stop": 0})"),
       "t.json: decoder.start is -1, outside 0 to 1048576"},
      {with_member(R"("added_tokens": [{"id": 7}])"), "t.json: added_tokens[0] lacks \"content\""},
      {with_member(R"("added_tokens": [{"id": 7, "content": "a"}])"),
       "t.json: the added token \"a\" with the id 7 contradicts the vocabulary's \"a\" with the id "
       "0"},
      {with_member(R"("added_tokens": [{"id": 1, "content": "x"}])"),
       "t.json: the added token \"x\" with the id 1 contradicts the vocabulary's \"b\" with the id "
       "1"},
      {with_member(R"("added_tokens": [{"id": 7, "content": "x"}, {"id": 7, "content": "y"}])"),
       "t.json: the tokens \"x\" and \"y\" share the id 7"},
  };
  for (const Fault& fault : kFaults)
    EXPECT_EQ(answer(fault.json), fault.message) << fault.json;
}

TEST(TokenizerJson, RefusesDeepNesting) {
  constexpr std::size_t kLevels = 1'000'000;
  const std::string too_deep =
      "t.json: not JSON: The JSON document was too deep (too many nested objects and arrays)";
  EXPECT_EQ(answer(std::string(kLevels, '[') + std::string(kLevels, ']')), too_deep);
  std::string open;
  std::string close;
  for (std::size_t i = 0; i < kLevels; ++i) {
    open += R"({"type":"Sequence","normalizers":[)";
    close += "]}";
  }
  EXPECT_EQ(answer(with_member("\"normalizer\":" + open + close)), too_deep);
}

TEST(TokenizerJson, TakesHugeIdsWithoutMemoryForThoseBelow) {
  const Result<Tokenizer> tokenizer = Tokenizer::from_json(
      with_model(R"({"type": "BPE", "vocab": {"a": 0, "b": 2147483647}, "merges": []})"), "t.json");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.error().message;
  EXPECT_EQ(tokenizer.value().piece(2147483647), "b");
  EXPECT_EQ(tokenizer.value().piece(5), std::nullopt);
  EXPECT_EQ(tokenizer.value().vocab_size(), 2147483648);
}

TEST(Tokenizer, NamesWhatItCannotEncodeOrDecode) {
  const Tokenizer tokenizer =
      Tokenizer::from_json(with_member(R"("version": "1.0")"), "t.json").value();
  const EncodeOptions options{.add_special = true, .parse_special = false};
  EXPECT_EQ(tokenizer.encode("a\xFF", options).error().message, "the text is not UTF-8: its byte 1 is 0xff");
  EXPECT_EQ(tokenizer.encode("\xC3\xA4\xE2\x82", options).error().message,
            "the text is not UTF-8: its byte 2 is 0xe2");
  for (const TokenId id : {-1, 3, 2147483647}) {
    EXPECT_EQ(tokenizer.decode(std::vector<TokenId>{0, id}, false).error().message,
              "id " + std::to_string(id) + " is not in the vocabulary, which ends at 2");
    StreamDecoder stream(tokenizer, false);
    EXPECT_EQ(stream.push(id).error().message,
              "id " + std::to_string(id) + " is not in the vocabulary");
  }
}

}  // namespace
}  // namespace plumb
