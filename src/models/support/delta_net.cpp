// Pieces of the hybrid decoders. Reference: transformers,
// models/qwen3_next/modeling_qwen3_next.py.
#include "models/support/delta_net.h"

#include <cmath>
#include <string>

namespace plumb {
namespace {

// Keys of published files that the reference's code takes no notice of, in some of these models or
// in all: looking them up keeps them off the list of those that nothing read.
constexpr std::string_view kUnheeded[] = {"attn_output_gate",
                                          "decoder_sparse_step",
                                          "intermediate_size",
                                          "mamba_ssm_dtype",
                                          "mlp_only_layers",
                                          "mtp_num_hidden_layers",
                                          "mtp_use_dedicated_embeddings",
                                          "norm_topk_prob"};

// A size that multiplies others; 2^20 is far above any published model's.
std::int64_t size_of(const Config& c, std::string_view key) {
  constexpr std::int64_t kMost = std::int64_t{1} << 20;
  const std::int64_t size = c.integer(key);
  if (size >= 1 && size <= kMost) return size;
  c.reject("\"" + std::string(key) + "\" is " + std::to_string(size) +
           ", outside 1 to " + std::to_string(kMost));
  return 1;
}

bool attends(const Config& c, std::int64_t interval, std::int64_t i) {
  if (c.layer_types.empty()) return (i + 1) % interval == 0;
  const std::string& type = c.layer_types[static_cast<std::size_t>(i)];
  if (type != "full_attention" && type != "linear_attention") {
    c.reject("layer_types names \"" + type +
             "\"; known here are full_attention and linear_attention");
  }
  return type == "full_attention";
}

Slice whole_slice(Shape out, std::int64_t first) {
  return {.out = std::move(out), .groups = 1, .first = first};
}

// Unit vectors; the queries' scale stands for attention's 1 / sqrt(key_dim).
Value unit_heads(Builder& b, std::string_view stage, Value x, double scale) {
  return b.l2_norm(stage, x,
                   {.eps = 1e-6,
                    .eps_place = L2Eps::kAddToSum,
                    .scale = scale,
                    .precision = WeightPrecision::kFloat32});
}

}  // namespace

Norm centred_norm(double eps) {
  Norm norm = rms_norm(eps);
  norm.weight_offset = 1;
  norm.rounding = Rounding::kAfterWeight;
  return norm;
}

Value gated_attention(Builder& b, const Config& c, Value x, const Norm& norm, const Rope& rope) {
  const bool bias = c.flag("attention_bias", false);
  const Shape heads = {c.num_attention_heads, c.head_dim};
  const Linear key_value = projection({c.num_key_value_heads, c.head_dim}, bias);
  const Value both = b.linear("attn.q_and_gate", x, "self_attn.q_proj",
                              projection({c.num_attention_heads, 2 * c.head_dim}, bias));
  Value q = b.slice("attn.q", both, {.out = heads, .groups = c.num_attention_heads, .first = 0});
  const Value gate = b.slice("attn.gate", both,
                             {.out = heads, .groups = c.num_attention_heads, .first = c.head_dim});
  Value k = b.linear("attn.k", x, "self_attn.k_proj", key_value);
  const Value v = b.linear("attn.v", x, "self_attn.v_proj", key_value);
  q = b.rope("attn.q_rope", b.norm("attn.q_norm", q, "self_attn.q_norm", norm), rope);
  k = b.rope("attn.k_rope", b.norm("attn.k_norm", k, "self_attn.k_norm", norm), rope);
  const Value context = b.attend("attn", q, k, v,
                                 {.scale = 1 / std::sqrt(static_cast<double>(c.head_dim)),
                                  .groups = HeadGroups::kRepeat,
                                  .window = std::nullopt,
                                  .soft_cap = std::nullopt,
                                  .sinks = false,
                                  .future = 0});
  const Value gated = b.gated("attn.gated", gate, context,
                              {.activation = Activation::kSigmoid,
                               .limit = std::nullopt,
                               .limit_sides = ClampSides::kGateAbove,
                               .sigmoid_slope = 1,
                               .up_offset = 0});
  return b.linear("attn.out", gated, "self_attn.o_proj", projection({c.hidden_size}, bias));
}

DeltaSizes delta_sizes(const Config& c) {
  return {.key_heads = size_of(c, "linear_num_key_heads"),
          .key_dim = size_of(c, "linear_key_head_dim"),
          .value_heads = size_of(c, "linear_num_value_heads"),
          .value_dim = size_of(c, "linear_value_head_dim"),
          .taps = size_of(c, "linear_conv_kernel_dim")};
}

DeltaProject split_projections(const Config& c) {
  return [sizes = delta_sizes(c)](Builder& b, Value x) -> DeltaProjections {
    const std::int64_t values = sizes.value_heads * sizes.value_dim;
    const std::int64_t channels = 2 * sizes.key_heads * sizes.key_dim + values;
    const Linear heads = projection({sizes.value_heads}, false);
    return {
        .qkv = b.linear("linear.qkv", x, "linear_attn.in_proj_qkv", projection({channels}, false)),
        .z = b.linear("linear.z", x, "linear_attn.in_proj_z", projection({values}, false)),
        .beta = b.linear("linear.b", x, "linear_attn.in_proj_b", heads),
        .decay = b.linear("linear.a", x, "linear_attn.in_proj_a", heads)};
  };
}

Value delta_net(Builder& b, const Config& c, const DeltaSizes& sizes, const DeltaProjections& in) {
  const Shape keys = {sizes.key_heads, sizes.key_dim};
  const Shape values = {sizes.value_heads, sizes.value_dim};
  const std::int64_t key_channels = sizes.key_heads * sizes.key_dim;
  const Value conv = b.convolution("linear.conv", in.qkv, "linear_attn.conv1d",
                                   {.taps = sizes.taps,
                                    .order = TapOrder::kNewestLast,
                                    .activation = gate_of(c).activation,
                                    .activation_place = ActivationPlace::kAfter,
                                    .window = WindowHolds::kInputs,
                                    .bias = false});
  const Value q = b.slice("linear.conv_q", conv, whole_slice(keys, 0));
  const Value k = b.slice("linear.conv_k", conv, whole_slice(keys, key_channels));
  const Value v = b.slice("linear.v", conv, whole_slice(values, 2 * key_channels));
  const double scale = 1 / std::sqrt(static_cast<double>(sizes.key_dim));
  const Value g = b.log_decay("linear.g", in.decay, "linear_attn.A_log", "linear_attn.dt_bias",
                              {.rate = DecayRate::kMinusExp,
                               .rate_precision = ScalePrecision::kActivation,
                               .sum_precision = WeightPrecision::kFloat32});
  const Value beta = b.activate("linear.beta", in.beta, {.activation = Activation::kSigmoid});
  const Value context = b.delta_rule("linear",
                                     {.q = unit_heads(b, "linear.q", q, scale),
                                      .k = unit_heads(b, "linear.k", k, 1),
                                      .v = v,
                                      .g = g,
                                      .beta = beta},
                                     {.form = DeltaForm::kRecurrent,
                                      .chunk = 64,
                                      .groups = HeadGroups::kRepeat,
                                      .decay = DecayPlace::kBeforeWrite,
                                      .read = ReadPlace::kAfterWrite,
                                      .strength = WriteStrength::kOnValue,
                                      .held = HeldRead::kAfterDecay,
                                      .state_precision = ScalePrecision::kFloat32});
  const Value normed = b.gated_norm("linear.norm", context, in.z, "linear_attn.norm",
                                    {.norm = rms_norm(c.rms_norm_eps),
                                     .activation = Activation::kSilu,
                                     .place = GatePlace::kAfterNorm,
                                     .gate_precision = WeightPrecision::kFloat32});
  return b.linear("attn.out", normed, "linear_attn.out_proj", projection({c.hidden_size}, false));
}

Value shared_expert_mlp(Builder& b, const Config& c, Value x, bool renormalise) {
  const RoutedMlp routed{
      .router = "mlp.gate",
      .names = {.gate = "mlp.experts.{e}.gate_proj",
                .up = "mlp.experts.{e}.up_proj",
                .down = "mlp.experts.{e}.down_proj"},
      .width = c.integer("moe_intermediate_size"),
      .routing = softmax_router(c.integer("num_experts"), c.integer("num_experts_per_tok"),
                                renormalise, WeightPrecision::kActivation),
      .gated = gate_of(c)};
  const Value out = shared_mlp(b, c, "moe.shared_out", "mlp.shared_expert", x,
                               c.integer("shared_expert_intermediate_size"), gate_of(c));
  const Value weight =
      b.linear("moe.shared_weight", x, "mlp.shared_expert_gate", projection({1}, false));
  const Value shared = b.gated("moe.shared", weight, out,
                               {.activation = Activation::kSigmoid,
                                .limit = std::nullopt,
                               .limit_sides = ClampSides::kGateAbove,
                                .sigmoid_slope = 1,
                                .up_offset = 0});
  return b.add("mlp.out", routed_mlp(b, "moe.routed", x, routed), shared, {.factor = 1});
}

Result<Graph> hybrid_decoder(const Config& c, const DeltaProject& project, const Branch& mlp) {
  for (const std::string_view key : kUnheeded)
    c.has(key);
  const Norm norm = centred_norm(c.rms_norm_eps);
  const Rope rope = half_split_rope(c, c.rope);
  const DeltaSizes sizes = delta_sizes(c);
  const std::int64_t interval = c.integer("full_attention_interval", 4);
  if (interval < 1) {
    c.reject("full_attention_interval is " + std::to_string(interval) +
             ", the least is 1");
  }
  const Branch mix = [&](Builder& b, Value h, std::int64_t i) {
    if (attends(c, std::max<std::int64_t>(interval, 1), i))
      return gated_attention(b, c, h, norm, rope);
    return delta_net(b, c, sizes, project(b, h));
  };
  return pre_norm_decoder(c, norm, mix, mlp);
}

}  // namespace plumb
