// OLMo-2 and OLMo-3. Reference: transformers, models/olmo2/modeling_olmo2.py.
#include "models/support/olmo.h"

namespace plumb {

Result<Graph> olmo_graph(const Config& c,
                         const std::function<OlmoLayer(std::int64_t layer)>& layer) {
  Norm norm = rms_norm(c.rms_norm_eps);
  norm.rounding = Rounding::kAfterWeight;
  Norm whole = norm;
  whole.span = NormSpan::kToken;
  const bool bias = c.flag("attention_bias", false);
  const Branch attend = [&](Builder& b, Value h, std::int64_t i) {
    OlmoLayer own = layer(i);
    own.rope.arithmetic = WeightPrecision::kFloat32;
    own.rope.tables = WeightPrecision::kFloat32;
    return self_attention(b, c, h,
                          {.qkv_bias = bias,
                           .out_bias = bias,
                           .qk_norm = whole,
                           .clip = std::nullopt,
                           .rope = own.rope,
                           .attend = causal_attend(c, own.window)});
  };
  const Branch feed = [&](Builder& b, Value m, std::int64_t) {
    return gated_mlp(b, c, m, c.integer("intermediate_size"), false);
  };
  Decoder conventions = llama_decoder(norm);
  conventions.attn_norm = std::nullopt;
  conventions.attn_post_norm = "post_attention_layernorm";
  conventions.mlp_norm = std::nullopt;
  conventions.mlp_post_norm = "post_feedforward_layernorm";
  return decoder(c, conventions, attend, feed);
}

std::vector<std::string> olmo_caveats(const Config& config) {
  if (config.head_dim * config.num_attention_heads == config.hidden_size) return {};
  return {"llama.cpp does not load it: head_dim is " + std::to_string(config.head_dim) +
          ", and it knows only hidden_size / num_attention_heads"};
}

}  // namespace plumb
