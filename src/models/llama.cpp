// Llama 2 and 3: dense decoder, grouped-query attention, SwiGLU. Reference: transformers,
// models/llama/modeling_llama.py.
#include "models/support/blocks.h"
#include "models/support/registry.h"

namespace plumb {
namespace {

Result<Graph> record(const Config& c) {
  const Norm norm = rms_norm(c.rms_norm_eps);
  const bool bias = c.flag("attention_bias", false);
  const SelfAttention attention{.qkv_bias = bias,
                                .out_bias = bias,
                                .qk_norm = std::nullopt,
                                .clip = std::nullopt,
                                .rope = half_split_rope(c, c.rope),
                                .attend = causal_attend(c, std::nullopt)};
  const Branch attend = [&](Builder& b, Value h, std::int64_t) {
    return self_attention(b, c, h, attention);
  };
  const Branch feed = [&](Builder& b, Value m, std::int64_t) {
    return gated_mlp(b, c, m, c.integer("intermediate_size"), c.flag("mlp_bias", false));
  };
  return pre_norm_decoder(c, norm, attend, feed);
}

}  // namespace

Architecture llama() {
  return {
      .model_type = "llama",
      .defaults =
          R"({"rms_norm_eps": 1e-6, "rope_theta": 10000, "max_position_embeddings": 2048, "hidden_act": "silu",
                          "tie_word_embeddings": false})",
      .record = record,
      .files = {.rules = {}, .ignored = {"model.layers.{i}.self_attn.rotary_emb.inv_freq"}},
      .gguf = {.architecture = "llama", .rotary_pairs = true}};
}

}  // namespace plumb
