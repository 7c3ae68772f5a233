// GLM-4: the first half of each head rotates in interleaved pairs, a norm before and after each half
// of a layer, gate and up stored as one matrix. Reference: transformers, models/glm4/modeling_glm4.py.
#include "models/support/blocks.h"
#include "models/support/registry.h"

namespace plumb {
namespace {

Result<Graph> record(const Config& c) {
  Rope rope = half_split_rope(c, c.rope);
  rope.pairing = RopePairing::kInterleaved;
  const SelfAttention attention{.qkv_bias = c.flag("attention_bias", true),
                                .out_bias = false,
                                .qk_norm = std::nullopt,
                                .clip = std::nullopt,
                                .rope = rope,
                                .attend = causal_attend(c, std::nullopt)};
  const Branch attend = [&](Builder& b, Value h, std::int64_t) {
    return self_attention(b, c, h, attention);
  };
  const Branch feed = [&](Builder& b, Value m, std::int64_t) {
    return gated_mlp(b, c, m, c.integer("intermediate_size"), false);
  };
  Decoder conventions = llama_decoder(rms_norm(c.rms_norm_eps));
  conventions.attn_post_norm = "post_self_attn_layernorm";
  conventions.mlp_post_norm = "post_mlp_layernorm";
  return decoder(c, conventions, attend, feed);
}

}  // namespace

Architecture glm4() {
  using Form = NameRule::Form;
  constexpr std::string_view kGateUp = "model.layers.{i}.mlp.gate_up_proj.weight";
  return {
      .model_type = "glm4",
      .defaults =
          R"({"rms_norm_eps": 1.5625e-7, "rope_theta": 10000, "max_position_embeddings": 131072,
              "hidden_act": "silu", "num_key_value_heads": 2, "head_dim": 128, "partial_rotary_factor": 0.5,
              "tie_word_embeddings": false})",
      .record = record,
      .rotates_part = true,
      .files =
          {.rules = {{"model.layers.{i}.mlp.gate_proj.weight", kGateUp, {Form::kRowRange}, 0, 1},
                     {"model.layers.{i}.mlp.up_proj.weight", kGateUp, {Form::kRowRange}, 1, 1}},
           .ignored = {}},
      // With sections, which the vision models have, the rows of q and k are in another order.
      .gguf = {
          .architecture = "glm4",
          .names = {{"model.layers.{i}.post_self_attn_layernorm.weight",
                     "blk.{i}.post_attention_norm.weight"},
                    {"model.layers.{i}.post_mlp_layernorm.weight", "blk.{i}.post_ffw_norm.weight"},
                    {"model.layers.{i}.mlp.gate_proj.weight", "blk.{i}.ffn_up.weight", 0},
                    {"model.layers.{i}.mlp.up_proj.weight", "blk.{i}.ffn_up.weight", 1}},
          .refused_key = "rope.dimension_sections"}};
}

}  // namespace plumb
