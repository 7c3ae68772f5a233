// Mistral: Llama with a sliding window on every layer. Reference: transformers,
// models/mistral/modeling_mistral.py.
#include "models/support/blocks.h"
#include "models/support/registry.h"

namespace plumb {
namespace {

Result<Graph> record(const Config& c) {
  const Norm norm = rms_norm(c.rms_norm_eps);
  const SelfAttention attention{.qkv_bias = false,
                                .out_bias = false,
                                .qk_norm = std::nullopt,
                                .clip = std::nullopt,
                                .rope = half_split_rope(c, c.rope),
                                .attend = causal_attend(c, c.sliding_window)};
  const Branch attend = [&](Builder& b, Value h, std::int64_t) {
    return self_attention(b, c, h, attention);
  };
  const Branch feed = [&](Builder& b, Value m, std::int64_t) {
    return gated_mlp(b, c, m, c.integer("intermediate_size"), false);
  };
  return pre_norm_decoder(c, norm, attend, feed);
}

}  // namespace

Architecture mistral() {
  return {
      .model_type = "mistral",
      .defaults =
          R"({"rms_norm_eps": 1e-6, "rope_theta": 10000, "max_position_embeddings": 131072, "hidden_act": "silu",
                          "num_key_value_heads": 8, "sliding_window": 4096, "tie_word_embeddings": false})",
      .record = record,
      .gguf = {.architecture = "llama", .window = true, .rotary_pairs = true}};
}

}  // namespace plumb
