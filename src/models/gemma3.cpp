// Gemma 3: norms on each query and key head, one full layer in six with a rotary base of its own;
// alone, or as published beside a vision tower, whose tensors are skipped. Reference: transformers,
// models/gemma3/modeling_gemma3.py.
#include "models/support/gemma.h"

namespace plumb {
namespace {

Result<Graph> record(const Config& c) {
  // Gemma3Attention does not apply it; looking it up keeps it off the list of keys that nothing read.
  c.has("attn_logit_softcapping");
  return gemma_graph(c, {.qk_norm = true,
                         .cap = std::nullopt,
                         .full_attention_period = c.integer("sliding_window_pattern", 6)});
}

constexpr std::int64_t kWideLayers = 62;  // the model of 27 billion parameters

std::vector<std::string> caveats(const Config& c) {
  return gemma_caveats(c, kWideLayers);
}

}  // namespace

Architecture gemma3() {
  return {
      .model_type = "gemma3",
      .defaults =
          R"({"vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
              "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
              "hidden_activation": "gelu_pytorch_tanh", "max_position_embeddings": 131072, "rms_norm_eps": 1e-6,
              "tie_word_embeddings": true, "rope_theta": 1000000, "rope_local_base_freq": 10000,
              "query_pre_attn_scalar": 256, "sliding_window": 4096})",
      .record = record,
      .files = {.rules = {},
                .ignored = {"vision_tower.*", "multi_modal_projector.*", "model.vision_tower.*",
                            "model.multi_modal_projector.*"},
                .prefixes = {{"model.", "language_model.model."},
                             {"model.", "model.language_model."},
                             {"lm_head.", "language_model.lm_head."}}},
      .aliases = {"gemma3_text"},
      .gguf = {.architecture = "gemma3",
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
