// Mixtral: Llama attention, two of a few experts per token, their weights renormalised and kept in
// float32. Reference: transformers, models/mixtral/modeling_mixtral.py. Experts are w1 (gate), w3
// (up) and w2 (down).
#include "models/support/blocks.h"
#include "models/support/expert_files.h"
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
  const RoutedMlp mlp{
      .router = "block_sparse_moe.gate",
      .names = {.gate = "block_sparse_moe.experts.{e}.w1",
                .up = "block_sparse_moe.experts.{e}.w3",
                .down = "block_sparse_moe.experts.{e}.w2"},
      .width = c.integer("intermediate_size"),
      .routing = softmax_router(c.integer("num_experts"), c.integer("num_experts_per_tok"), true,
                                WeightPrecision::kFloat32),
      .gated = gate_of(c)};
  const Branch attend = [&](Builder& b, Value h, std::int64_t) {
    return self_attention(b, c, h, attention);
  };
  const Branch feed = [&](Builder& b, Value m, std::int64_t) {
    return routed_mlp(b, "mlp.out", m, mlp);
  };
  return pre_norm_decoder(c, norm, attend, feed);
}

}  // namespace

Architecture mixtral() {
  return {.model_type = "mixtral",
          .defaults =
              R"({"rms_norm_eps": 1e-5, "rope_theta": 1000000, "max_position_embeddings": 131072,
                          "hidden_act": "silu", "num_key_value_heads": 8, "num_experts": 8, "num_experts_per_tok": 2,
                          "tie_word_embeddings": false})",
          .record = record,
          // mlx-lm's stacks (models/mixtral.py, sanitize).
          .files = {.rules = {stacked_expert(
                                  "model.layers.{i}.block_sparse_moe.experts.{e}.w1.weight",
                                  "model.layers.{i}.block_sparse_moe.switch_mlp.gate_proj.weight"),
                              stacked_expert(
                                  "model.layers.{i}.block_sparse_moe.experts.{e}.w3.weight",
                                  "model.layers.{i}.block_sparse_moe.switch_mlp.up_proj.weight"),
                              stacked_expert(
                                  "model.layers.{i}.block_sparse_moe.experts.{e}.w2.weight",
                                  "model.layers.{i}.block_sparse_moe.switch_mlp.down_proj.weight")},
                    .ignored = {}},
          .gguf = {.architecture = "llama",
                   .experts = true,
                   .rotary_pairs = true,
                   .names = {{"model.layers.{i}.block_sparse_moe.gate.weight",
                              "blk.{i}.ffn_gate_inp.weight"},
                             {"model.layers.{i}.block_sparse_moe.experts.{e}.w1.weight",
                              "blk.{i}.ffn_gate_exps.weight"},
                             {"model.layers.{i}.block_sparse_moe.experts.{e}.w3.weight",
                              "blk.{i}.ffn_up_exps.weight"},
                             {"model.layers.{i}.block_sparse_moe.experts.{e}.w2.weight",
                              "blk.{i}.ffn_down_exps.weight"},
                             // Files of 2023 hold each expert alone.
                             {"model.layers.{i}.block_sparse_moe.experts.{e}.w1.weight",
                              "blk.{i}.ffn_gate.{e}.weight"},
                             {"model.layers.{i}.block_sparse_moe.experts.{e}.w3.weight",
                              "blk.{i}.ffn_up.{e}.weight"},
                             {"model.layers.{i}.block_sparse_moe.experts.{e}.w2.weight",
                              "blk.{i}.ffn_down.{e}.weight"}}}};
}

}  // namespace plumb
