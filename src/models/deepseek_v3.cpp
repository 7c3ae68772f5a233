// DeepSeek-V3: latent attention (queries, keys and values out of narrow latents, one rotated key
// for all heads), sigmoid routing with a correction bias inside the best groups of experts, and
// shared experts. Reference: transformers, models/deepseek_v3/modeling_deepseek_v3.py.
#include <cmath>

#include "graph/rope.h"
#include "models/support/blocks.h"
#include "models/support/deepseek_v3_files.h"
#include "models/support/registry.h"

namespace plumb {
namespace {

// Queries and keys of a head: `plain` channels without rotation, then `rotated` ones.
struct Heads {
  std::int64_t count;
  std::int64_t plain;
  std::int64_t rotated;
  std::int64_t value;
};

Heads heads_of(const Config& c) {
  return {.count = c.num_attention_heads,
          .plain = c.integer("qk_nope_head_dim"),
          .rotated = c.integer("qk_rope_head_dim"),
          .value = c.integer("v_head_dim")};
}

Rope rope_of(const Config& c, const Heads& heads) {
  return {.pairing =
              c.flag("rope_interleave", true) ? RopePairing::kInterleaved : RopePairing::kHalfSplit,
          .slice = RopeSlice::kLast,
          .direction = RopeDirection::kForward,
          .dims = heads.rotated,
          .frequencies = rope_frequencies(c, c.rope),
          .attention_factor = rope_attention_factor(c, c.rope),
          .position_offset = 0,
          .arithmetic = WeightPrecision::kActivation,
          .tables = WeightPrecision::kActivation};
}

// yarn_apply_mscale: where the frequencies are scaled, so is the temperature.
double scale_of(const Config& c, const Heads& heads) {
  const double scale = 1 / std::sqrt(static_cast<double>(heads.plain + heads.rotated));
  const double all_dim = c.rope.mscale_all_dim.value_or(0);
  const double factor = c.rope.factor.value_or(1);
  if (c.rope.type == "default" || all_dim == 0 || factor <= 1) return scale;
  const double mscale = 0.1 * all_dim * std::log(factor) + 1;
  return scale * mscale * mscale;
}

Value queries(Builder& b, const Config& c, const Heads& heads, Value x) {
  const Linear out = projection({heads.count, heads.plain + heads.rotated}, false);
  if (!c.has("q_lora_rank")) return b.linear("attn.q", x, "self_attn.q_proj", out);
  const Value latent =
      b.linear("attn.q_a", x, "self_attn.q_a_proj",
               projection({c.integer("q_lora_rank")}, c.flag("attention_bias", false)));
  const Value normed =
      b.norm("attn.q_a_norm", latent, "self_attn.q_a_layernorm", rms_norm(kDeepseekV3LatentEps));
  return b.linear("attn.q", normed, "self_attn.q_b_proj", out);
}

Value attention(Builder& b, const Config& c, Value x) {
  const Heads heads = heads_of(c);
  const Rope rope = rope_of(c, heads);
  const std::int64_t rank = c.integer("kv_lora_rank");
  const bool bias = c.flag("attention_bias", false);
  const Value q = b.rope("attn.q_rope", queries(b, c, heads, x), rope);

  const Value kv = b.linear("attn.kv", x, "self_attn.kv_a_proj_with_mqa",
                            projection({rank + heads.rotated}, bias));
  const Value latent = b.norm(
      "attn.kv_norm", b.slice("attn.kv_latent", kv, {.out = {rank}, .groups = 1, .first = 0}),
      "self_attn.kv_a_layernorm", rms_norm(kDeepseekV3LatentEps));
  const Value shared_key = b.rope(
      "attn.kv_rope",
      b.slice("attn.kv_key", kv, {.out = {1, heads.rotated}, .groups = 1, .first = rank}), rope);
  const Value expanded = b.linear("attn.kv_b", latent, "self_attn.kv_b_proj",
                                  projection({heads.count, heads.plain + heads.value}, false));
  const Value plain_key =
      b.slice("attn.k_plain", expanded,
              {.out = {heads.count, heads.plain}, .groups = heads.count, .first = 0});
  const Value v =
      b.slice("attn.v", expanded,
              {.out = {heads.count, heads.value}, .groups = heads.count, .first = heads.plain});
  const Value k = b.join_heads("attn.k_rope", {plain_key, shared_key});
  const Value context = b.attend("attn", q, k, v,
                                 {.scale = scale_of(c, heads),
                                  .groups = HeadGroups::kRepeat,
                                  .window = std::nullopt,
                                  .soft_cap = std::nullopt,
                                  .sinks = false,
                                  .future = 0});
  return b.linear("attn.out", context, "self_attn.o_proj", projection({c.hidden_size}, bias));
}

Value mixture(Builder& b, const Config& c, Value x) {
  const std::int64_t experts = c.integer("num_experts");
  const std::int64_t width = c.integer("moe_intermediate_size");
  Linear router = projection({experts}, false);
  router.result = WeightPrecision::kFloat32;
  const Value scores = b.linear("moe.logits", x, "mlp.gate", router);
  const RouterValues routing =
      b.router("moe", scores,
               {.experts = experts,
                .chosen = c.integer("num_experts_per_tok"),
                .choice = RouterChoice::kLargest,
                .score = RouterScore::kSigmoid,
                .order = RouterOrder::kScoreThenSelect,
                .selection_bias = SelectionBias::kChoice,
                .groups = ExpertGroups{.groups = c.integer("n_group"),
                                       .chosen = c.integer("topk_group"),
                                       .largest = 2,
                                       .excluded = ExcludedScore::kMinusInfinity},
                .renormalise = c.flag("norm_topk_prob", true),
                .sum_epsilon = 1e-20,
                .scale = c.number("routed_scaling_factor"),
                .arithmetic = WeightPrecision::kFloat32,
                .precision = WeightPrecision::kFloat32},
               "mlp.gate.e_score_correction_bias");
  const Value routed =
      b.experts("moe.routed", x, routing,
                {.gate = "mlp.experts.{e}.gate_proj",
                 .up = "mlp.experts.{e}.up_proj",
                 .down = "mlp.experts.{e}.down_proj"},
                {.experts = experts, .width = width, .gated = gate_of(c), .bias = false});
  const Value shared = shared_mlp(b, c, "moe.shared", "mlp.shared_experts", x,
                                  width * c.integer("n_shared_experts"), gate_of(c));
  return b.add("mlp.out", routed, shared, {.factor = 1});
}

// Published configurations name what the reference's code takes for granted.
void check_routing(const Config& c) {
  const auto expect = [&](std::string_view key, std::string_view known) {
    if (const std::string value = c.text(key, known); value != known) {
      c.reject(std::string(key) + " is \"" + value +
               "\", deepseek_v3 knows only \"" + std::string(known) + "\"");
    }
  };
  expect("scoring_func", "sigmoid");
  expect("topk_method", "noaux_tc");
  if (const std::int64_t every = c.integer("moe_layer_freq", 1); every != 1) {
    c.reject("moe_layer_freq is " + std::to_string(every) +
             ", deepseek_v3 knows only 1");
  }
  c.integer("qk_head_dim", 0);  // the sum of its two parts, where a file repeats it
}

Result<Graph> record(const Config& c) {
  check_routing(c);
  const std::int64_t dense = c.integer("first_k_dense_replace");
  const Branch attend = [&](Builder& b, Value h, std::int64_t) { return attention(b, c, h); };
  const Branch feed = [&](Builder& b, Value m, std::int64_t i) {
    return i < dense ? gated_mlp(b, c, m, c.integer("intermediate_size"), false) : mixture(b, c, m);
  };
  return pre_norm_decoder(c, rms_norm(c.rms_norm_eps), attend, feed);
}

}  // namespace

Architecture deepseek_v3() {
  return {
      .model_type = "deepseek_v3",
      .defaults =
          R"({"rms_norm_eps": 1e-6, "rope_theta": 10000, "max_position_embeddings": 4096, "hidden_act": "silu",
              "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_attention_heads": 128,
              "n_shared_experts": 1, "num_experts": 256, "routed_scaling_factor": 2.5, "kv_lora_rank": 512,
              "q_lora_rank": 1536, "qk_rope_head_dim": 64, "v_head_dim": 128, "qk_nope_head_dim": 128, "n_group": 8,
              "topk_group": 4, "num_experts_per_tok": 8, "first_k_dense_replace": 3, "norm_topk_prob": true,
              "rope_interleave": true, "attention_bias": false, "tie_word_embeddings": false})",
      .record = record,
      // The published checkpoint predicts a second token with its 62nd layer.
      .files = {.rules = {}, .ignored = {"model.layers.61.*"}},
      .gguf = deepseek_v3_gguf()};
}

}  // namespace plumb
