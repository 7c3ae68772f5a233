// Shared pieces. Reference: transformers, models/llama/modeling_llama.py and those that derive from
// it.
#include "models/support/blocks.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "graph/rope.h"

namespace plumb {

Norm rms_norm(double eps) {
  return {.eps = eps,
          .eps_place = EpsPlace::kInsideRoot,
          .weight_offset = 0,
          .centre = NormCentre::kNone,
          .span = NormSpan::kHead,
          .rounding = Rounding::kBeforeWeight};
}

Rope half_split_rope(const Config& c, const RopeParameters& parameters) {
  Rope rope{.pairing = RopePairing::kHalfSplit,
            .slice = RopeSlice::kFirst,
            .direction = RopeDirection::kForward,
            .dims = static_cast<std::int64_t>(static_cast<double>(c.head_dim) *
                                              parameters.partial_rotary_factor),
            .frequencies = rope_frequencies(c, parameters),
            .attention_factor = rope_attention_factor(c, parameters),
            .position_offset = 0,
            .arithmetic = WeightPrecision::kActivation,
            .tables = WeightPrecision::kActivation};
  const std::size_t factors = rope.frequencies.short_factor.size();
  if (rope.frequencies.scaling == RopeScaling::kLongrope &&
      std::cmp_not_equal(factors, rope.dims / 2)) {
    c.reject("rope_parameters: short_factor has " + std::to_string(factors) +
             " entries, the rotated pairs are " + std::to_string(rope.dims / 2));
  }
  return rope;
}

Rope layer_rope(const Config& c, std::string_view layer_type) {
  if (c.rope_of_layer_type.empty()) return half_split_rope(c, c.rope);
  const auto own = c.rope_of_layer_type.find(layer_type);
  if (own == c.rope_of_layer_type.end()) {
    c.reject("rope_parameters has no entry for layers of type " +
             std::string(layer_type));
    return half_split_rope(c, c.rope);
  }
  return half_split_rope(c, own->second);
}

Gated gate_of(const Config& c) {
  struct Name {
    std::string_view name;
    Activation activation;
  };
  // transformers, activations.py, ACT2CLS; "gelu_new" and "gelu_pytorch_tanh" are the same
  // function.
  constexpr Name kNames[] = {
      {"silu", Activation::kSilu},         {"swish", Activation::kSilu},
      {"gelu", Activation::kGeluErf},      {"gelu_pytorch_tanh", Activation::kGeluTanh},
      {"gelu_new", Activation::kGeluTanh}, {"relu", Activation::kRelu}};
  Gated gated{
      .activation = Activation::kSilu, .limit = std::nullopt, .limit_sides = ClampSides::kGateAbove, .sigmoid_slope = 1, .up_offset = 0};
  for (const Name& entry : kNames) {
    if (entry.name != c.hidden_act) continue;
    gated.activation = entry.activation;
    return gated;
  }
  c.reject("hidden_act \"" + c.hidden_act +
           "\" is not known; known are silu, gelu, gelu_pytorch_tanh and relu");
  return gated;
}

Linear projection(Shape out, bool bias) {
  return {.out = std::move(out),
          .bias = bias,
          .order = WeightOrder::kOutIn,
          .result = WeightPrecision::kActivation};
}

Router softmax_router(std::int64_t experts, std::int64_t chosen, bool renormalise,
                      WeightPrecision precision) {
  return {.experts = experts,
          .chosen = chosen,
          .choice = RouterChoice::kLargest,
          .score = RouterScore::kSoftmax,
          .order = RouterOrder::kScoreThenSelect,
          .selection_bias = SelectionBias::kNone,
          .groups = std::nullopt,
          .renormalise = renormalise,
          .sum_epsilon = 0,
          .scale = 1,
          .arithmetic = WeightPrecision::kFloat32,
          .precision = precision};
}

Attend causal_attend(const Config& c, std::optional<std::int64_t> window) {
  return {.scale = 1 / std::sqrt(static_cast<double>(c.head_dim)),
          .groups = HeadGroups::kRepeat,
          .window = window,
          .soft_cap = std::nullopt,
          .sinks = false,
          .future = 0};
}

Value self_attention(Builder& b, const Config& c, Value x, const SelfAttention& attention) {
  const Linear key_value = projection({c.num_key_value_heads, c.head_dim}, attention.qkv_bias);
  Value q = b.linear("attn.q", x, "self_attn.q_proj",
                     projection({c.num_attention_heads, c.head_dim}, attention.qkv_bias));
  Value k = b.linear("attn.k", x, "self_attn.k_proj", key_value);
  Value v = b.linear("attn.v", x, "self_attn.v_proj", key_value);
  if (attention.qk_norm) {
    q = b.norm("attn.q_norm", q, "self_attn.q_norm", *attention.qk_norm);
    k = b.norm("attn.k_norm", k, "self_attn.k_norm", *attention.qk_norm);
  }
  if (attention.clip) {
    q = b.clamp("attn.q_clip", q, *attention.clip);
    k = b.clamp("attn.k_clip", k, *attention.clip);
    v = b.clamp("attn.v_clip", v, *attention.clip);
  }
  if (attention.rope) {
    q = b.rope("attn.q_rope", q, *attention.rope);
    k = b.rope("attn.k_rope", k, *attention.rope);
  }
  const std::optional<std::string_view> sinks =
      attention.attend.sinks ? std::optional("self_attn.sinks") : std::nullopt;
  const Value context = b.attend("attn", q, k, v, attention.attend, sinks);
  return b.linear("attn.out", context, "self_attn.o_proj",
                  projection({c.hidden_size}, attention.out_bias));
}

Value gated_mlp(Builder& b, const Config& c, Value x, std::int64_t width, bool bias) {
  const Value gate = b.linear("mlp.gate", x, "mlp.gate_proj", projection({width}, bias));
  const Value up = b.linear("mlp.up", x, "mlp.up_proj", projection({width}, bias));
  return b.linear("mlp.out", b.gated("mlp.act", gate, up, gate_of(c)), "mlp.down_proj",
                  projection({c.hidden_size}, bias));
}

Value routed_mlp(Builder& b, std::string_view stage, Value x, const RoutedMlp& mlp) {
  const Value scores =
      b.linear("moe.logits", x, mlp.router, projection({mlp.routing.experts}, false));
  const RouterValues routing = b.router("moe", scores, mlp.routing);
  return b.experts(
      stage, x, routing, mlp.names,
      {.experts = mlp.routing.experts, .width = mlp.width, .gated = mlp.gated, .bias = false});
}

Value shared_mlp(Builder& b, const Config& c, std::string_view stage, std::string_view weights,
                 Value x, std::int64_t width, const Gated& gated) {
  const Linear wide = projection({width}, false);
  const Value gate = b.linear("moe.shared_gate", x, std::string(weights) + ".gate_proj", wide);
  const Value up = b.linear("moe.shared_up", x, std::string(weights) + ".up_proj", wide);
  return b.linear(stage, b.gated("moe.shared_act", gate, up, gated),
                  std::string(weights) + ".down_proj", projection({c.hidden_size}, false));
}

bool is_sparse_layer(const Config& c, std::int64_t i) {
  const auto dense = c.integers("mlp_only_layers");
  const std::int64_t step = c.integer("decoder_sparse_step");
  if (step < 1)
    c.reject("decoder_sparse_step is " + std::to_string(step) + ", the least is 1");
  return std::find(dense.begin(), dense.end(), i) == dense.end() &&
         (i + 1) % std::max<std::int64_t>(step, 1) == 0;
}

Result<Graph> decoder(const Config& c, const Decoder& decoder, const Branch& attention,
                      const Branch& mlp) {
  Builder b(c);
  const auto norm = [&](std::string_view stage, Value x, std::optional<std::string_view> weight) {
    return weight ? b.norm(stage, x, *weight, decoder.norm) : x;
  };
  Value x = b.embed("embed", "model.embed_tokens", decoder.embed);
  for (std::int64_t i = 0; i < c.num_hidden_layers; ++i) {
    const auto layer = b.layer(i);
    const Value attended = attention(b, norm("attn.norm", x, decoder.attn_norm), i);
    x = b.add("attn.residual", x, norm("attn.post_norm", attended, decoder.attn_post_norm),
              {.factor = 1});
    const Value fed = mlp(b, norm("mlp.norm", x, decoder.mlp_norm), i);
    x = b.add("residual", x, norm("mlp.post_norm", fed, decoder.mlp_post_norm), {.factor = 1});
  }
  x = b.norm("norm", x, "model.norm", decoder.norm);
  b.logits("logits", x, c.tie_word_embeddings ? "model.embed_tokens" : "lm_head", decoder.logits);
  return b.finish();
}

Decoder llama_decoder(const Norm& norm) {
  return {.norm = norm,
          .embed = {.scale = 1, .scale_precision = ScalePrecision::kActivation},
          .logits = {.soft_cap = std::nullopt, .scale = 1},
          .attn_norm = "input_layernorm",
          .attn_post_norm = std::nullopt,
          .mlp_norm = "post_attention_layernorm",
          .mlp_post_norm = std::nullopt};
}

Result<Graph> pre_norm_decoder(const Config& c, const Norm& norm, const Branch& attention,
                               const Branch& mlp) {
  return decoder(c, llama_decoder(norm), attention, mlp);
}

std::string_view layer_type(const Config& c, std::int64_t i, std::int64_t period) {
  constexpr std::string_view kFull = "full_attention";
  constexpr std::string_view kSliding = "sliding_attention";
  if (c.layer_types.empty()) return (i + 1) % period == 0 ? kFull : kSliding;
  // Config complains where layer_types is shorter than the layers.
  if (std::cmp_greater_equal(i, c.layer_types.size())) return kFull;
  const std::string& type = c.layer_types[static_cast<std::size_t>(i)];
  if (type == kSliding) return kSliding;
  if (type != kFull) {
    c.reject("layer_types names \"" + type +
             "\"; known are full_attention and sliding_attention");
  }
  return kFull;
}

std::optional<std::int64_t> layer_window(const Config& c, std::string_view layer_type) {
  if (layer_type != "sliding_attention") return std::nullopt;
  if (!c.sliding_window)
    c.reject("layers are of type sliding_attention, but sliding_window is not given");
  return c.sliding_window;
}

std::optional<std::int64_t> switched_window(const Config& c, std::int64_t i) {
  const std::string_view type = layer_type(c, i, 1);
  if (type == "sliding_attention" && !c.flag("use_sliding_window", false))
    c.reject("layer_types names sliding_attention, but use_sliding_window is off");
  return layer_window(c, type);
}

std::optional<std::int64_t> qwen_window(const Config& c, std::int64_t i) {
  const bool slides = c.flag("use_sliding_window", false) && c.sliding_window.has_value();
  const std::int64_t first_window = c.integer("max_window_layers");  // layer_types overrides it
  if (c.layer_types.empty()) {
    return slides && i >= first_window ? c.sliding_window : std::nullopt;
  }
  return switched_window(c, i);
}

std::vector<std::string> dense_layer_caveats(const Config& c) {
  for (std::int64_t i = 0; i < c.num_hidden_layers; ++i) {
    if (is_sparse_layer(c, i)) continue;
    return {"llama.cpp does not load it: the layer " + std::to_string(i) +
            " is dense, and it knows only layers with experts"};
  }
  return {};
}

}  // namespace plumb
