// OLMoE: routed experts in every layer, weights not renormalised; norms over all heads of queries
// and keys together. Reference: transformers, models/olmoe/modeling_olmoe.py.
#include "models/support/blocks.h"
#include "models/support/expert_files.h"
#include "models/support/registry.h"

namespace plumb {
namespace {

Result<Graph> record(const Config& c) {
  const Norm norm = rms_norm(c.rms_norm_eps);
  Norm whole = norm;
  whole.span = NormSpan::kToken;
  const bool bias = c.flag("attention_bias", false);
  const auto clip = c.maybe_number("clip_qkv");
  const SelfAttention attention{.qkv_bias = bias,
                                .out_bias = bias,
                                .qk_norm = whole,
                                .clip = clip ? std::optional(Clamp{.limit = *clip}) : std::nullopt,
                                .rope = half_split_rope(c, c.rope),
                                .attend = causal_attend(c, std::nullopt)};
  const RoutedMlp mlp{
      .router = "mlp.gate",
      .names = {.gate = "mlp.experts.{e}.gate_proj",
                .up = "mlp.experts.{e}.up_proj",
                .down = "mlp.experts.{e}.down_proj"},
      .width = c.integer("intermediate_size"),
      .routing = softmax_router(c.integer("num_experts"), c.integer("num_experts_per_tok"),
                                c.flag("norm_topk_prob", false), WeightPrecision::kActivation),
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

Architecture olmoe() {
  return {
      .model_type = "olmoe",
      .defaults =
          R"({"rms_norm_eps": 1e-5, "rope_theta": 10000, "max_position_embeddings": 4096, "hidden_act": "silu",
                          "intermediate_size": 2048, "num_experts": 64, "num_experts_per_tok": 8,
                          "tie_word_embeddings": false})",
      .record = record,
      .files = {.rules = switch_mlp_rules(), .ignored = {}},
      .gguf = {.architecture = "olmoe", .experts = true}};
}

}  // namespace plumb
