// Gemma 2: windows in every second layer, caps on scores and logits, a norm before and after each
// half. Reference: transformers, models/gemma2/modeling_gemma2.py.
#include "models/support/gemma.h"

namespace plumb {
namespace {

Result<Graph> record(const Config& c) {
  return gemma_graph(
      c,
      {.qk_norm = false, .cap = soft_cap(c, "attn_logit_softcapping"), .full_attention_period = 2});
}

constexpr std::int64_t kWideLayers = 46;  // the model of 27 billion parameters

std::vector<std::string> caveats(const Config& c) {
  return gemma_caveats(c, kWideLayers);
}

}  // namespace

Architecture gemma2() {
  return {
      .model_type = "gemma2",
      .defaults =
          R"({"hidden_activation": "gelu_pytorch_tanh", "max_position_embeddings": 8192, "rms_norm_eps": 1e-6,
              "num_key_value_heads": 4, "head_dim": 256, "tie_word_embeddings": true, "rope_theta": 10000,
              "query_pre_attn_scalar": 256, "sliding_window": 4096, "final_logit_softcapping": 30,
              "attn_logit_softcapping": 50})",
      .record = record,
      .gguf = {.architecture = "gemma2",
               .window = true,
               .norms_plus_one = true,
               .scale_from_width = kWideLayers,
               .names = {{"model.layers.{i}.post_attention_layernorm.weight",
                          "blk.{i}.post_attention_norm.weight"},
                         {"model.layers.{i}.pre_feedforward_layernorm.weight",
                          "blk.{i}.ffn_norm.weight"},
                         {"model.layers.{i}.post_feedforward_layernorm.weight",
                          "blk.{i}.post_ffw_norm.weight"}},
               .keys = {{"attention.query_pre_attn_scalar", "query_pre_attn_scalar",
                         GgufKey::Type::kNumber}},
               .caveats = caveats}};
}

}  // namespace plumb
