// Qwen3-MoE: Qwen3 whose MLPs are routed experts, but for the layers that mlp_only_layers and
// decoder_sparse_step leave dense. Reference: transformers, models/qwen3_moe/modeling_qwen3_moe.py.
#include "models/support/blocks.h"
#include "models/support/expert_files.h"
#include "models/support/registry.h"

namespace plumb {
namespace {

Value mlp(Builder& b, const Config& c, Value x, std::int64_t i) {
  if (!is_sparse_layer(c, i)) return gated_mlp(b, c, x, c.integer("intermediate_size"), false);
  return routed_mlp(
      b, "mlp.out", x,
      {.router = "mlp.gate",
       .names = {.gate = "mlp.experts.{e}.gate_proj",
                 .up = "mlp.experts.{e}.up_proj",
                 .down = "mlp.experts.{e}.down_proj"},
       .width = c.integer("moe_intermediate_size"),
       .routing = softmax_router(c.integer("num_experts"), c.integer("num_experts_per_tok"),
                                 c.flag("norm_topk_prob", false), WeightPrecision::kActivation),
       .gated = gate_of(c)});
}

Result<Graph> record(const Config& c) {
  // Of dense layers, which need not be there: looking it up keeps it off the list of keys that nothing read.
  c.has("intermediate_size");
  const Norm norm = rms_norm(c.rms_norm_eps);
  const bool bias = c.flag("attention_bias", false);
  const SelfAttention attention{
      .qkv_bias = bias,
      .out_bias = bias,
      .qk_norm = norm,
      .clip = std::nullopt,
      .rope = half_split_rope(c, c.rope),
      .attend =
          causal_attend(c, c.flag("use_sliding_window", false) ? c.sliding_window : std::nullopt)};
  const Branch attend = [&](Builder& b, Value h, std::int64_t) {
    return self_attention(b, c, h, attention);
  };
  const Branch feed = [&](Builder& b, Value m, std::int64_t i) { return mlp(b, c, m, i); };
  return pre_norm_decoder(c, norm, attend, feed);
}

}  // namespace

Architecture qwen3_moe() {
  return {
      .model_type = "qwen3_moe",
      .defaults =
          R"({"rms_norm_eps": 1e-6, "rope_theta": 10000, "max_position_embeddings": 32768, "hidden_act": "silu",
                          "num_key_value_heads": 4, "sliding_window": 4096, "decoder_sparse_step": 1, "num_experts": 128,
                          "num_experts_per_tok": 8, "moe_intermediate_size": 768, "tie_word_embeddings": false})",
      .record = record,
      .files = {.rules = switch_mlp_rules(), .ignored = {}},
      .gguf = {
          .architecture = "qwen3moe",
          .experts = true,
          .constants = R"({"norm_topk_prob": true})",
          .caveats = dense_layer_caveats}};
}

}  // namespace plumb
