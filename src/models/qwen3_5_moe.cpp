// Qwen3.5-MoE: Qwen3.5 with routed experts and a shared one in every layer. Reference: transformers,
// models/qwen3_5_moe/modeling_qwen3_5_moe.py; the chosen weights are always renormalised.
#include <utility>

#include "models/support/delta_files.h"
#include "models/support/delta_net.h"
#include "models/support/registry.h"

namespace plumb {
namespace {

Result<Graph> record(const Config& c) {
  const Branch feed = [&](Builder& b, Value m, std::int64_t) {
    return shared_expert_mlp(b, c, m, /*renormalise=*/true);
  };
  return hybrid_decoder(c, split_projections(c), feed);
}

}  // namespace

Architecture qwen3_5_moe() {
  GgufConventions gguf = hybrid_gguf("qwen35moe");
  gguf.experts = true;
  gguf.names = hybrid_expert_gguf_names();
  return {
      .model_type = "qwen3_5_moe",
      .defaults =
          R"({"vocab_size": 248320, "hidden_size": 2048, "num_hidden_layers": 40, "num_attention_heads": 16,
              "num_key_value_heads": 2, "head_dim": 256, "hidden_act": "silu", "rms_norm_eps": 1e-6,
              "max_position_embeddings": 32768, "rope_theta": 10000, "partial_rotary_factor": 0.25,
              "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
              "linear_num_key_heads": 16, "linear_num_value_heads": 32, "moe_intermediate_size": 512,
              "shared_expert_intermediate_size": 512, "num_experts_per_tok": 8, "num_experts": 256,
              "tie_word_embeddings": false})",
      .record = record,
      .rotates_part = true,
      .files = hybrid_expert_files(),
      .aliases = {"qwen3_5_moe_text"},
      .gguf = std::move(gguf)};
}

}  // namespace plumb
