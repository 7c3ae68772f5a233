// Qwen3-Next: the decoder of Qwen3.5-MoE with its projections packed by key head, and some layers
// dense. Reference: transformers, models/qwen3_next/modeling_qwen3_next.py.
#include "models/support/delta_files.h"
#include "models/support/delta_net.h"
#include "models/support/registry.h"

namespace plumb {
namespace {

// For each key head [q | k | its values | their gates], and [its betas | their decays]
// (Qwen3NextGatedDeltaNet.fix_query_key_value_ordering).
DeltaProject packed_projections(const Config& c) {
  return [sizes = delta_sizes(c)](Builder& b, Value h) -> DeltaProjections {
    const std::int64_t keys = sizes.key_heads * sizes.key_dim;
    const std::int64_t values = sizes.value_heads * sizes.value_dim;
    const std::int64_t values_of_key = values / sizes.key_heads;
    const Value qkvz = b.linear("linear.qkvz", h, "linear_attn.in_proj_qkvz",
                                projection({2 * keys + 2 * values}, false));
    const Value ba = b.linear("linear.ba", h, "linear_attn.in_proj_ba",
                              projection({2 * sizes.value_heads}, false));
    const auto part = [&](std::string_view stage, Value x, std::int64_t size, std::int64_t first) {
      return b.slice(stage, x, {.out = {size}, .groups = sizes.key_heads, .first = first});
    };
    const Value q = part("linear.in_q", qkvz, keys, 0);
    const Value k = part("linear.in_k", qkvz, keys, sizes.key_dim);
    const Value v = part("linear.in_v", qkvz, values, 2 * sizes.key_dim);
    return {.qkv = b.concat("linear.qkv", {q, k, v}),
            .z = part("linear.z", qkvz, values, 2 * sizes.key_dim + values_of_key),
            .beta = part("linear.b", ba, sizes.value_heads, 0),
            .decay = part("linear.a", ba, sizes.value_heads, sizes.value_heads / sizes.key_heads)};
  };
}

Result<Graph> record(const Config& c) {
  const bool renormalise = c.flag("norm_topk_prob", true);
  const Branch feed = [&](Builder& b, Value m, std::int64_t i) {
    if (c.integer("num_experts") > 0 && is_sparse_layer(c, i))
      return shared_expert_mlp(b, c, m, renormalise);
    return gated_mlp(b, c, m, c.integer("intermediate_size"), false);
  };
  return hybrid_decoder(c, packed_projections(c), feed);
}

// llama.cpp splits the rows of qkvz by what they are, each in the order of its heads, and leaves those of ba as they are
// (conversion/qwen.py, Qwen3NextModel.modify_tensors).
std::vector<SplitRule> gguf_splits(const Config& c) {
  using Layout = SplitRule::Layout;
  constexpr std::string_view kQkv = "blk.{i}.attn_qkv.weight";
  const DeltaSizes sizes = delta_sizes(c);
  const std::int64_t values = sizes.value_heads / sizes.key_heads * sizes.value_dim;
  return {{.name = "model.layers.{i}.linear_attn.in_proj_qkvz.weight",
           .groups = sizes.key_heads,
           .parts = {{kQkv, sizes.key_dim, Layout::kRows},
                     {kQkv, sizes.key_dim, Layout::kRows},
                     {kQkv, values, Layout::kRows},
                     {"blk.{i}.attn_gate.weight", values, Layout::kRows}}}};
}

std::vector<std::string> caveats(const Config& c) {
  std::vector<std::string> sentences = delta_caveats(c);
  if (!c.flag("norm_topk_prob", true))
    sentences.push_back("llama.cpp computes otherwise: norm_topk_prob is false, and it renormalises");
  for (std::string& sentence : dense_layer_caveats(c))
    sentences.push_back(std::move(sentence));
  return sentences;
}

GgufConventions gguf_conventions() {
  GgufConventions gguf{.architecture = "qwen3next",
                       .experts = true,
                       .norms_plus_one = true,
                       .names = hybrid_expert_gguf_names(),
                       .splits = gguf_splits,
                       .keys = delta_gguf_keys(),
                       .absent = R"({"norm_topk_prob": true})",
                       .recurrent = true,
                       .caveats = caveats};
  const GgufName names[] = {
      {"model.layers.{i}.linear_attn.in_proj_ba.weight", "blk.{i}.ssm_ba.weight"},
      // Files of the first months hold the projection whole.
      {"model.layers.{i}.linear_attn.in_proj_qkvz.weight", "blk.{i}.ssm_in.weight"},
      {"model.layers.{i}.linear_attn.dt_bias", "blk.{i}.ssm_dt.bias"},
      {.name = "model.layers.{i}.linear_attn.A_log", .stored = "blk.{i}.ssm_a", .minus_exp = true},
      {.name = "model.layers.{i}.linear_attn.conv1d.weight",
       .stored = "blk.{i}.ssm_conv1d.weight",
       .squeezed = true},
      {"model.layers.{i}.linear_attn.out_proj.weight", "blk.{i}.ssm_out.weight"}};
  gguf.names.insert(gguf.names.end(), std::begin(names), std::end(names));
  gguf.keys.push_back({"expert_weights_norm", "norm_topk_prob", GgufKey::Type::kFlag});
  return gguf;
}

}  // namespace

Architecture qwen3_next() {
  return {
      .model_type = "qwen3_next",
      .defaults =
          R"({"vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 48,
              "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256, "hidden_act": "silu",
              "rms_norm_eps": 1e-6, "max_position_embeddings": 32768, "rope_theta": 10000,
              "partial_rotary_factor": 0.25, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128,
              "linear_value_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32,
              "decoder_sparse_step": 1, "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512,
              "num_experts_per_tok": 10, "num_experts": 512, "tie_word_embeddings": false})",
      .record = record,
      .rotates_part = true,
      .files = hybrid_expert_files(),
      .gguf = gguf_conventions()};
}

}  // namespace plumb
