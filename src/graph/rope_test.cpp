// Rotary frequencies against transformers 5.23: ROPE_INIT_FUNCTIONS[type](LlamaConfig(head_dim=12, …)), as hexadecimal floats.
#include "graph/rope.h"

#include <gtest/gtest.h>

#include <cmath>

namespace plumb {
namespace {

Config config(std::string_view rope, int max_position_embeddings) {
  const std::string json =
      R"({"model_type": "llama", "vocab_size": 9, "hidden_size": 48, "num_hidden_layers": 1,
      "num_attention_heads": 4, "head_dim": 12, "rms_norm_eps": 1e-6, "hidden_act": "silu", "max_position_embeddings": )" +
      std::to_string(max_position_embeddings) + R"(, "rope_parameters": )" + std::string(rope) +
      "}";
  auto parsed = Config::parse(json, "config.json");
  EXPECT_TRUE(parsed.ok());
  EXPECT_TRUE(parsed.value().apply_defaults("{}").ok());
  return std::move(parsed).value();
}

struct Case {
  const char* rope;
  int max_position_embeddings;
  std::int64_t length;
  double attention_factor;
  std::vector<double> inv_freq;
};

const Case kCases[] = {
    {R"({"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0})",
     64,
     1,
     1.0,
     {0x1.0p-2, 0x1.b93a6ap-5, 0x1.7c3d2ap-7, 0x1.47ae14p-9, 0x1.1a62d2p-11, 0x1.e6b4b8p-14}},
    {R"({"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": 64})",
     512,
     1,
     1.0,
     {0x1.0p+0, 0x1.32c2c0p-6, 0x1.9cd9d2p-10, 0x1.72ba42p-13, 0x1.4ce6ecp-16, 0x1.2aefa4p-19}},
    // Two blended frequencies, 3.3 units off where a number is divided by a tensor in one rounding.
    {R"({"rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 3.0,
         "original_max_position_embeddings": 65})",
     520,
     1,
     1.0,
     {0x1.0p+0, 0x1.db4c78p-2, 0x1.245a82p-3, 0x1.cb11c8p-7, 0x1.7c3d2ap-8, 0x1.60fb8cp-9}},
    {R"({"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32})",
     128,
     1,
     1.138629436111989,
     {0x1.0p+0, 0x1.13c482p-3, 0x1.7c3d2ap-7, 0x1.47ae14p-9, 0x1.1a62d2p-11, 0x1.e6b4b8p-14}},
    {R"({"rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0, "original_max_position_embeddings": 128, "truncate": false,
         "beta_fast": 16.0, "beta_slow": 2.0, "mscale": 0.707, "mscale_all_dim": 1.0})",
     4096,
     1,
     0.9245892963555604,
     {0x1.0p+0, 0x1.a49ec2p-6, 0x1.345bd0p-11, 0x1.526d2cp-14, 0x1.736d10p-17, 0x1.97a4c4p-20}},
    {R"({"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0})",
     64,
     64,
     1.0,
     {0x1.0p+0, 0x1.b93a6ap-3, 0x1.7c3d2ap-5, 0x1.47ae14p-7, 0x1.1a62d2p-9, 0x1.e6b4b8p-12}},
    {R"({"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0})",
     64,
     91,
     1.0,
     {0x1.0p+0, 0x1.866966p-3, 0x1.29b2aap-5, 0x1.c600c4p-8, 0x1.5a300ap-10, 0x1.07f9e4p-12}},
    {R"({"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1, 1.1, 1.2, 1.3, 1.5, 2],
         "long_factor": [1.5, 2, 3, 4, 5, 6], "original_max_position_embeddings": 32})",
     128,
     32,
     1.1832159566199232,
     {0x1.0p+0, 0x1.911dd6p-3, 0x1.3cdda2p-5, 0x1.f81f82p-8, 0x1.7883c2p-10, 0x1.e6b4b8p-13}},
    {R"({"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1, 1.1, 1.2, 1.3, 1.5, 2],
         "long_factor": [1.5, 2, 3, 4, 5, 6], "original_max_position_embeddings": 32})",
     128,
     33,
     1.1832159566199232,
     {0x1.555556p-1, 0x1.b93a6ap-4, 0x1.fafc36p-7, 0x1.47ae14p-9, 0x1.c3d14ep-12, 0x1.44787cp-14}},
};

TEST(Rope, FrequenciesAreTransformers) {
  for (const Case& expected : kCases) {
    const Config c = config(expected.rope, expected.max_position_embeddings);
    const RopeFrequencies frequencies = rope_frequencies(c, c.rope);
    ASSERT_TRUE(c.status().ok()) << c.status().error().message;
    EXPECT_NEAR(rope_attention_factor(c, c.rope), expected.attention_factor, 1e-15);
    const auto single = inverse_frequencies<float>(frequencies, 12, expected.length);
    const auto exact = inverse_frequencies<double>(frequencies, 12, expected.length);
    ASSERT_EQ(single.size(), expected.inv_freq.size());
    for (std::size_t i = 0; i < single.size(); ++i) {
      // One unit in the last place for powf's own error; a unit of float32 is at most 2^-23 of the value.
      EXPECT_NEAR(single[i], expected.inv_freq[i], std::ldexp(expected.inv_freq[i], -23))
          << expected.rope << " " << i;
      EXPECT_NEAR(exact[i], expected.inv_freq[i], std::ldexp(expected.inv_freq[i], -20))
          << expected.rope << " " << i;
    }
  }
}

TEST(Rope, ImpossibleParametersAreNamed) {
  const auto complaint = [](std::string_view rope) {
    const Config c = config(rope, 64);
    (void)rope_frequencies(c, c.rope);
    return c.status().ok() ? std::string() : c.status().error().message;
  };
  EXPECT_NE(complaint(R"({"rope_type": "spiral", "rope_theta": 10000.0})").find("spiral"),
            std::string::npos);
  EXPECT_NE(
      complaint(R"({"rope_type": "linear", "rope_theta": 10000.0})").find("factor is missing"),
      std::string::npos);
  EXPECT_NE(
      complaint(R"({"rope_type": "linear", "rope_theta": 10000.0, "factor": -4})").find("factor"),
      std::string::npos);
}

}  // namespace
}  // namespace plumb
