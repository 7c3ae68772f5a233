// Qwen3.5: gated delta-nets beside gated attention, dense MLPs. Reference: transformers,
// models/qwen3_5/modeling_qwen3_5.py. For text the three position streams of its rotation are one,
// which leaves an ordinary rotation of the first channels.
#include "models/support/delta_files.h"
#include "models/support/delta_net.h"
#include "models/support/registry.h"

namespace plumb {
namespace {

Result<Graph> record(const Config& c) {
  const Branch feed = [&](Builder& b, Value m, std::int64_t) {
    return gated_mlp(b, c, m, c.integer("intermediate_size"), false);
  };
  return hybrid_decoder(c, split_projections(c), feed);
}

}  // namespace

Architecture qwen3_5() {
  return {
      .model_type = "qwen3_5",
      .defaults =
          R"({"vocab_size": 248320, "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 32,
              "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 256, "hidden_act": "silu",
              "rms_norm_eps": 1e-6, "max_position_embeddings": 32768, "rope_theta": 10000,
              "partial_rotary_factor": 0.25, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128,
              "linear_value_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32,
              "tie_word_embeddings": false})",
      .record = record,
      .rotates_part = true,
      .files = hybrid_files(),
      .aliases = {"qwen3_5_text"},
      .gguf = hybrid_gguf("qwen35")};
}

}  // namespace plumb
