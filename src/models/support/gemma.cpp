// Gemma 2 and 3. Reference: transformers, models/gemma2/modeling_gemma2.py and
// models/gemma3/modeling_gemma3.py.
#include "models/support/gemma.h"

#include <cmath>

#include "models/support/blocks.h"

namespace plumb {
namespace {

double attention_scale(const Config& c) {
  const double scalar = c.number("query_pre_attn_scalar");
  if (scalar > 0) return 1 / std::sqrt(scalar);
  c.reject("query_pre_attn_scalar is " + std::to_string(scalar) + ", not above 0");
  return 1;
}

}  // namespace

std::optional<double> soft_cap(const Config& c, std::string_view key) {
  const auto cap = c.maybe_number(key);
  if (cap && *cap <= 0)
    c.reject(std::string(key) + " is " + std::to_string(*cap) + ", not above 0");
  return cap;
}

Result<Graph> gemma_graph(const Config& c, const Gemma& gemma) {
  if (c.flag("use_bidirectional_attention", false))
    c.reject("use_bidirectional_attention is on, and only causal models are known");
  Norm norm = rms_norm(c.rms_norm_eps);
  norm.weight_offset = 1;
  norm.rounding = Rounding::kAfterWeight;
  const bool bias = c.flag("attention_bias", false);
  const double scale = attention_scale(c);
  const Branch attend = [&](Builder& b, Value h, std::int64_t i) {
    const std::string_view type = layer_type(c, i, gemma.full_attention_period);
    SelfAttention attention{.qkv_bias = bias,
                            .out_bias = bias,
                            .qk_norm = gemma.qk_norm ? std::optional(norm) : std::nullopt,
                            .clip = std::nullopt,
                            .rope = layer_rope(c, type),
                            .attend = causal_attend(c, layer_window(c, type))};
    attention.attend.scale = scale;
    attention.attend.soft_cap = gemma.cap;
    return self_attention(b, c, h, attention);
  };
  const Branch feed = [&](Builder& b, Value m, std::int64_t) {
    return gated_mlp(b, c, m, c.integer("intermediate_size"), false);
  };
  const Decoder conventions{
      .norm = norm,
      .embed = {.scale = std::sqrt(static_cast<double>(c.hidden_size)),
                .scale_precision = ScalePrecision::kActivation},
      .logits = {.soft_cap = soft_cap(c, "final_logit_softcapping"), .scale = 1},
      .attn_norm = "input_layernorm",
      .attn_post_norm = "post_attention_layernorm",
      .mlp_norm = "pre_feedforward_layernorm",
      .mlp_post_norm = "post_feedforward_layernorm"};
  return decoder(c, conventions, attend, feed);
}

std::vector<std::string> gemma_caveats(const Config& config, std::int64_t wide) {
  const std::int64_t taken = config.num_hidden_layers == wide
                                 ? config.hidden_size / config.num_attention_heads
                                 : config.head_dim;
  const double said = config.number("query_pre_attn_scalar");
  if (said == static_cast<double>(taken)) return {};
  return {"llama.cpp computes otherwise: query_pre_attn_scalar is " +
          std::to_string(static_cast<std::int64_t>(said)) + ", and it takes " +
          std::to_string(taken)};
}

}  // namespace plumb
