// Qwen3: dense decoder, grouped-query attention, RMSNorm on each query and key head.
// Reference: transformers, models/qwen3/modeling_qwen3.py.
#include "models/support/blocks.h"
#include "models/support/registry.h"

namespace plumb {
namespace {

Result<Graph> record(const Config& c) {
  const Norm norm = rms_norm(c.rms_norm_eps);
  const Rope rope = half_split_rope(c, c.rope);
  const bool bias = c.flag("attention_bias", false);
  const Branch attend = [&](Builder& b, Value h, std::int64_t i) {
    return self_attention(b, c, h,
                          {.qkv_bias = bias,
                           .out_bias = bias,
                           .qk_norm = norm,
                           .clip = std::nullopt,
                           .rope = rope,
                           .attend = causal_attend(c, qwen_window(c, i))});
  };
  const Branch feed = [&](Builder& b, Value m, std::int64_t) {
    return gated_mlp(b, c, m, c.integer("intermediate_size"), false);
  };
  return pre_norm_decoder(c, norm, attend, feed);
}

}  // namespace

Architecture qwen3() {
  return {
      .model_type = "qwen3",
      .defaults =
          R"({"rms_norm_eps": 1e-6, "rope_theta": 10000, "max_position_embeddings": 32768, "hidden_act": "silu",
                          "num_key_value_heads": 32, "head_dim": 128, "sliding_window": 4096, "max_window_layers": 28,
                          "tie_word_embeddings": false})",
      .record = record,
      .gguf = {.architecture = "qwen3"}};
}

}  // namespace plumb
