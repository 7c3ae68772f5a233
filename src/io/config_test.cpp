// Config: both forms of config.json mean the same, and every other file is one sentence.
#include "io/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/io_test_support.h"

namespace plumb {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

constexpr std::string_view kDefaults =
    R"({"rms_norm_eps": 1e-6, "rope_theta": 10000, "hidden_act": "silu"})";

// The keys that every decoder needs, and `more`.
std::string decoder(const std::string& more) {
  return R"({"model_type": "m", "vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
             "max_position_embeddings": 64)" +
         (more.empty() ? "" : ", " + more) + "}";
}

Config config_of(const std::string& json, std::string_view defaults = kDefaults) {
  auto parsed = Config::parse(json, "C");
  EXPECT_TRUE(parsed.ok()) << (parsed.ok() ? "" : parsed.error().message);
  Config config = std::move(parsed).value();
  const Status applied = config.apply_defaults(defaults);
  EXPECT_TRUE(applied.ok());
  return config;
}

std::string complaint_of(const std::string& json) {
  const auto parsed = Config::parse(json, "C");
  if (!parsed.ok()) return parsed.error().message;
  const Config config = config_of(json);
  return config.status().ok() ? "accepted" : config.status().error().message;
}

void expect_equal(const Config& a, const Config& b) {
  EXPECT_EQ(a.model_type(), b.model_type());
  EXPECT_EQ(a.vocab_size, b.vocab_size);
  EXPECT_EQ(a.hidden_size, b.hidden_size);
  EXPECT_EQ(a.num_hidden_layers, b.num_hidden_layers);
  EXPECT_EQ(a.num_attention_heads, b.num_attention_heads);
  EXPECT_EQ(a.num_key_value_heads, b.num_key_value_heads);
  EXPECT_EQ(a.head_dim, b.head_dim);
  EXPECT_EQ(a.max_position_embeddings, b.max_position_embeddings);
  EXPECT_EQ(a.rms_norm_eps, b.rms_norm_eps);
  EXPECT_EQ(a.hidden_act, b.hidden_act);
  EXPECT_EQ(a.tie_word_embeddings, b.tie_word_embeddings);
  EXPECT_EQ(a.sliding_window, b.sliding_window);
  EXPECT_EQ(a.layer_types, b.layer_types);
  EXPECT_EQ(a.rope, b.rope);
  EXPECT_EQ(a.rope_of_layer_type, b.rope_of_layer_type);
  EXPECT_EQ(a.stop_ids, b.stop_ids);
  EXPECT_EQ(a.tokenizer_eos, b.tokenizer_eos);
  for (const char* key :
       {"num_experts", "num_experts_per_tok", "moe_intermediate_size", "intermediate_size"}) {
    EXPECT_EQ(a.maybe_integer(key), b.maybe_integer(key)) << key;
  }
  EXPECT_EQ(a.text("dtype", "none"), b.text("dtype", "none"));
}

// Every checkpoint under `root` that has its configuration in both forms; how many there were.
int compare_forms_under(const std::filesystem::path& root) {
  int compared = 0;
  for (const auto& folder : std::filesystem::directory_iterator(root)) {
    const std::filesystem::path old_form = folder.path() / "config.v4.json";
    if (!std::filesystem::exists(old_form)) continue;
    SCOPED_TRACE(folder.path().string());
    auto fresh = Config::read(folder.path(), std::nullopt);
    auto old = Config::read(folder.path(), old_form);
    EXPECT_TRUE(fresh.ok() && old.ok());
    if (!fresh.ok() || !old.ok()) continue;
    EXPECT_TRUE(fresh.value().apply_defaults("{}").ok());
    EXPECT_TRUE(old.value().apply_defaults("{}").ok());
    expect_equal(fresh.value(), old.value());
    EXPECT_TRUE(fresh.value().status().ok()) << fresh.value().status().error().message;
    EXPECT_TRUE(old.value().status().ok()) << old.value().status().error().message;
    EXPECT_THAT(fresh.value().stop_ids, ElementsAre(0, 2));
    EXPECT_EQ(fresh.value().tokenizer_eos, "<|im_end|>");
    EXPECT_EQ(fresh.value().text("dtype", ""), "bfloat16");
    ++compared;
  }
  return compared;
}

TEST(ConfigForms, BothFormsOfEveryCheckpointAreEqual) {
  EXPECT_GE(compare_forms_under(test::data_path("checkpoints")), 6);
  if (test::has_shared("fixtures/checkpoints")) {
    EXPECT_EQ(
        compare_forms_under(std::filesystem::path(PLUMB_SHARED_DIR) / "fixtures" / "checkpoints"),
        10);
  }
}

TEST(Config, FieldsFallBackAsTheReferenceDoes) {
  const Config config = config_of(
      decoder(R"("head_dim": null, "num_key_value_heads": null, "sliding_window": null)"));
  EXPECT_TRUE(config.status().ok());
  EXPECT_EQ(config.head_dim, 4);
  EXPECT_EQ(config.num_key_value_heads, 2);
  EXPECT_EQ(config.rms_norm_eps, 1e-6);
  EXPECT_EQ(config.hidden_act, "silu");
  EXPECT_FALSE(config.sliding_window.has_value());
  EXPECT_EQ(config.rope.type, "default");
  EXPECT_EQ(config.rope.theta, 10000);
}

TEST(Config, AliasesAreOneKey) {
  EXPECT_EQ(config_of(decoder(R"("num_local_experts": 4)")).integer("num_experts"), 4);
  EXPECT_EQ(config_of(decoder(R"("num_experts": 5)")).integer("num_local_experts"), 5);
  EXPECT_EQ(config_of(decoder(R"("torch_dtype": "float16")")).text("dtype", ""), "float16");
  EXPECT_EQ(config_of(decoder(R"("hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh")"))
                .hidden_act,
            "gelu_pytorch_tanh");
}

TEST(Config, TextConfigIsMergedOverTheTopLevel) {
  const Config config = config_of(
      R"({"model_type": "wrapper", "vocab_size": 3, "max_position_embeddings": 7, "text_config":
      {"model_type": "inner", "vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2},
      "vision_config": {"depth": 2}})");
  EXPECT_TRUE(config.status().ok());
  EXPECT_EQ(config.model_type(), "wrapper");
  EXPECT_EQ(config.text_model_type(), "inner");
  EXPECT_EQ(config.vocab_size, 10);
  EXPECT_EQ(config.max_position_embeddings, 7);
  EXPECT_THAT(config.unread(), ElementsAre());
}

TEST(Config, UnreadKeysAreListed) {
  const Config config =
      config_of(decoder(R"("use_cache": true, "attention_bias": true, "surprise": 1,
      "rope_scaling": {"type": "linear", "factor": 2, "twist": 3, "finetuned": true})"));
  EXPECT_THAT(config.unread(),
              UnorderedElementsAre("attention_bias", "surprise", "rope_parameters.twist"));
  EXPECT_TRUE(config.flag("attention_bias", false));
  EXPECT_THAT(config.unread(), UnorderedElementsAre("surprise", "rope_parameters.twist"));
}

TEST(Config, DefaultsThatNobodyReadAreNotTheFilesKeys) {
  EXPECT_THAT(config_of(decoder(""),
                        R"({"rms_norm_eps": 1, "hidden_act": "silu", "max_window_layers": 28})")
                  .unread(),
              ElementsAre());
}

TEST(ConfigRope, ScalingOfTheOldFormTakesThetaFromTheTopLevel) {
  const Config config =
      config_of(decoder(R"("rope_theta": 500, "rope_scaling": {"type": "yarn", "factor": 4})"));
  EXPECT_EQ(config.rope.type, "yarn");
  EXPECT_EQ(config.rope.theta, 500);
  EXPECT_EQ(config.rope.factor, 4);
  EXPECT_EQ(config.rope.original_max_position_embeddings, 64);  // standardize_rope_params
  EXPECT_TRUE(config.rope.truncate);
}

TEST(ConfigRope, ThetaInsideRopeParametersWins) {
  const Config config = config_of(decoder(
      R"("rope_theta": 500, "rope_parameters": {"rope_theta": 7, "rope_type": "default"})"));
  EXPECT_EQ(config.rope.theta, 7);
}

TEST(ConfigRope, TopLevelOriginalLengthWins) {
  const Config config = config_of(decoder(R"("original_max_position_embeddings": 16, "rope_scaling":
      {"rope_type": "longrope", "short_factor": [1, 2], "long_factor": [3, 4], "original_max_position_embeddings": 32})"));
  EXPECT_EQ(config.rope.original_max_position_embeddings, 16);
  EXPECT_THAT(config.rope.long_factor, ElementsAre(3, 4));
  const Config linear = config_of(decoder(R"("rope_scaling": {"type": "linear", "factor": 2})"));
  EXPECT_FALSE(linear.rope.original_max_position_embeddings.has_value());
}

TEST(ConfigRope, ParametersByLayerType) {
  const Config config =
      config_of(decoder(R"("rope_theta": 5, "partial_rotary_factor": 0.5, "rope_parameters":
      {"full_attention": {"rope_type": "yarn", "factor": 2, "truncate": false}, "sliding_attention": {"rope_theta": 9}, "none": null})"));
  ASSERT_TRUE(config.status().ok());
  EXPECT_EQ(config.rope_of_layer_type.size(), 2U);
  EXPECT_EQ(config.rope, config.rope_of_layer_type.at("full_attention"));
  EXPECT_EQ(config.rope.theta, 5);
  EXPECT_EQ(config.rope.partial_rotary_factor, 0.5);
  EXPECT_TRUE(config.rope.truncate);  // the reference looks for it outside the nested object
  EXPECT_EQ(config.rope_of_layer_type.at("sliding_attention").theta, 9);
}

TEST(ConfigRope, LocalBaseOfGemma3) {
  const Config config =
      config_of(decoder(R"("rope_theta": 1000000, "rope_local_base_freq": 10000, "rope_scaling":
      {"rope_type": "linear", "factor": 8})"));
  EXPECT_EQ(config.rope.type, "linear");
  EXPECT_EQ(config.rope.theta, 1000000);
  EXPECT_EQ(config.rope_of_layer_type.at("sliding_attention").theta, 10000);
  EXPECT_EQ(config.rope_of_layer_type.at("sliding_attention").type, "default");
}

TEST(ConfigRope, OlderKeyOfTheKindIsOutrankedWhereTypesOfLayersRotateApart) {
  const Config config = config_of(
      decoder(R"("rope_local_base_freq": 10000, "rope_scaling": {"type": "linear", "factor": 8})"));
  EXPECT_EQ(config.rope.type, "default");
}

TEST(ConfigHostile, TextThatIsNotAConfig) {
  EXPECT_EQ(complaint_of(""), "C: is not valid JSON at byte 1");
  EXPECT_EQ(complaint_of("{\"a\": }"), "C: is not valid JSON at byte 7");
  EXPECT_EQ(complaint_of("{\"a\": \"\xff\"}"), "C: is not valid JSON at byte 8");
  EXPECT_EQ(complaint_of("{\"a\": 1e400}"), "C: is not valid JSON at byte 11");
  EXPECT_EQ(complaint_of("[]"), "C: is not a JSON object");
  EXPECT_EQ(complaint_of(std::string(100000, '[')), "C: nests deeper than 32 levels of JSON");
  EXPECT_EQ(complaint_of("{}"), "C: has no \"model_type\" that is a string");
  EXPECT_EQ(complaint_of(R"({"model_type": 3})"), "C: has no \"model_type\" that is a string");
}

TEST(ConfigHostile, ValuesOutOfRange) {
  EXPECT_EQ(complaint_of(R"({"model_type": "m"})"), "C: has no \"vocab_size\"");
  EXPECT_EQ(complaint_of(decoder(R"("vocab_size": 0)")),
            "C: \"vocab_size\" is 0, outside 1 to 2147483647");
  EXPECT_EQ(complaint_of(decoder(R"("hidden_size": -8)")),
            "C: \"hidden_size\" is -8, outside 1 to 2147483647");
  EXPECT_EQ(complaint_of(decoder(R"("hidden_size": 2147483648)")),
            "C: \"hidden_size\" is 2147483648, outside 1 to 2147483647");
  EXPECT_EQ(complaint_of(decoder(R"("hidden_size": 18446744073709551615)")),
            "C: \"hidden_size\" is 18446744073709551615, not an integer");
  EXPECT_EQ(complaint_of(decoder(R"("hidden_size": 8.5)")),
            "C: \"hidden_size\" is 8.5, not an integer");
  EXPECT_EQ(complaint_of(decoder(R"("num_attention_heads": "two")")),
            "C: \"num_attention_heads\" is \"two\", not an integer");
  EXPECT_EQ(complaint_of(decoder(R"("rms_norm_eps": "small")")),
            "C: \"rms_norm_eps\" is \"small\", not a number");
  EXPECT_EQ(complaint_of(decoder(R"("tie_word_embeddings": 1)")),
            "C: \"tie_word_embeddings\" is 1, neither true nor false");
  EXPECT_EQ(complaint_of(decoder(R"("hidden_act": ["silu"])")),
            "C: \"hidden_act\" is a list, not a string");
  EXPECT_EQ(complaint_of(decoder(R"("layer_types": ["full_attention"])")),
            "C: \"layer_types\" has 1 entries, num_hidden_layers is 2");
  EXPECT_EQ(complaint_of(decoder(R"("num_hidden_layers": 1000000000)")),
            "C: \"num_hidden_layers\" is 1000000000, outside 1 to 2048");
  EXPECT_EQ(complaint_of(decoder(R"("layer_types": [1, 2])")),
            "C: \"layer_types\" is 1, not a string");
  EXPECT_EQ(complaint_of(decoder(R"("eos_token_id": [1, -1])")),
            "C: \"eos_token_id\" is -1, outside 0 to 2147483647");
  EXPECT_EQ(complaint_of(decoder(R"("rope_theta": 0)")), "C: \"rope_theta\" is 0.0, not above 0");
  EXPECT_EQ(complaint_of(decoder(R"("rope_parameters": 3)")),
            "C: \"rope_parameters\" is not an object");
  EXPECT_EQ(complaint_of(decoder(R"("rope_parameters": {"factor": "x", "rope_type": "linear"})")),
            "C: \"rope_parameters.factor\" is \"x\", not a number");
  EXPECT_EQ(complaint_of(decoder(R"("rope_parameters": {"a": {}, "b": 1})")),
            "C: \"rope_parameters\" mixes objects by layer type with the key \"b\"");
}

TEST(ConfigFiles, StopIdsAndEosComeFromThreeFiles) {
  const test::TemporaryFolder folder;
  folder.write("config.json", decoder(R"("eos_token_id": 7)"));
  folder.write("generation_config.json", R"({"eos_token_id": [3, 7]})");
  folder.write(
      "tokenizer_config.json",
      R"({"eos_token": {"content": "</s>"}, "model_max_length": 1000000000000000019884624838656})");
  auto config = Config::read(folder.path(), std::nullopt);
  ASSERT_TRUE(config.ok()) << config.error().message;
  ASSERT_TRUE(config.value().apply_defaults(kDefaults).ok());
  EXPECT_THAT(config.value().stop_ids, ElementsAre(3, 7));
  EXPECT_EQ(config.value().tokenizer_eos, "</s>");
  folder.write("tokenizer_config.json", R"({"eos_token": 3})");
  EXPECT_EQ(Config::read(folder.path() / "config.json", std::nullopt).error().message,
            (folder.path() / "tokenizer_config.json").string() +
                ": \"eos_token\" is neither a string nor an object with a string \"content\"");
  EXPECT_EQ(Config::read(folder.path() / "none", std::nullopt).error().message,
            (folder.path() / "none").string() + ": cannot open: No such file or directory");
}

}  // namespace
}  // namespace plumb
