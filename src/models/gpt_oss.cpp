// gpt-oss: sinks in every softmax, windows in every second layer, biases throughout, clamped gates in
// routed experts. Reference: transformers, models/gpt_oss/modeling_gpt_oss.py.
#include "models/support/blocks.h"
#include "models/support/registry.h"

namespace plumb {
namespace {

Value experts(Builder& b, const Config& c, Value x) {
  const std::int64_t count = c.integer("num_experts");
  const Value scores = b.linear("moe.logits", x, "mlp.router", projection({count}, true));
  Router router =
      softmax_router(count, c.integer("num_experts_per_tok"), false, WeightPrecision::kActivation);
  router.order = RouterOrder::kSelectThenScore;
  const RouterValues routing = b.router("moe", scores, router);
  return b.experts("mlp.out", x, routing,
                   {.gate = "mlp.experts.{e}.gate_proj",
                    .up = "mlp.experts.{e}.up_proj",
                    .down = "mlp.experts.{e}.down_proj"},
                   {.experts = count,
                    .width = c.integer("intermediate_size"),
                    .gated = {.activation = Activation::kSteppedSilu,
                              .limit = c.number("swiglu_limit"),
                              .limit_sides = ClampSides::kGateAbove,
                              .sigmoid_slope = c.number("swiglu_alpha"),
                              .up_offset = 1},
                    .bias = true});
}

Result<Graph> record(const Config& c) {
  Norm norm = rms_norm(c.rms_norm_eps);
  norm.rounding = Rounding::kAfterWeight;
  const bool bias = c.flag("attention_bias", true);
  const Branch attend = [&](Builder& b, Value h, std::int64_t i) {
    SelfAttention attention{.qkv_bias = bias,
                            .out_bias = bias,
                            .qk_norm = std::nullopt,
                            .clip = std::nullopt,
                            .rope = half_split_rope(c, c.rope),
                            .attend = causal_attend(c, layer_window(c, layer_type(c, i, 2)))};
    attention.attend.sinks = true;
    return self_attention(b, c, h, attention);
  };
  const Branch feed = [&](Builder& b, Value m, std::int64_t) { return experts(b, c, m); };
  return pre_norm_decoder(c, norm, attend, feed);
}

// A file does not say whether yarn's ramp begins and ends at whole channels. The published models' does not.
Status gguf_expressible(const Config& c) {
  if (c.rope.type != "yarn" || !c.rope.truncate) return {};
  return Error{ErrorCode::kUnsupported,
               c.where() + ": rope_parameters has truncate, which GGUF files of gpt-oss cannot say"};
}

std::vector<std::string> gguf_caveats(const Config& c) {
  std::vector<std::string> sentences;
  if (c.rope.type == "yarn") {
    sentences.emplace_back(
        "llama.cpp computes otherwise: truncate is false, and it rounds yarn's ramp to whole channels");
  }
  if (c.number("swiglu_alpha") != 1.702 || c.number("swiglu_limit") != 7)
    sentences.emplace_back("llama.cpp computes otherwise: its swiglu_alpha is 1.702, its swiglu_limit 7");
  return sentences;
}

}  // namespace

Architecture gpt_oss() {
  using Form = NameRule::Form;
  const std::vector<Form> matrix = {Form::kExpertSlice, Form::kTransposed};
  const std::vector<Form> half_matrix = {Form::kExpertSlice, Form::kTransposed,
                                         Form::kInterleavedRows};
  const std::vector<Form> half_rows = {Form::kExpertSlice, Form::kInterleavedRows};
  constexpr std::string_view kFused = "model.layers.{i}.mlp.experts.gate_up_proj";
  // MXFP4 keeps [expert, out, in], where the plain tensors are [expert, in, out].
  constexpr std::string_view kFusedBlocks = "model.layers.{i}.mlp.experts.gate_up_proj_blocks";
  constexpr std::string_view kFusedBias = "model.layers.{i}.mlp.experts.gate_up_proj_bias";
  return {
      .model_type = "gpt_oss",
      .defaults =
          R"({"hidden_act": "silu", "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "head_dim": 64,
              "num_key_value_heads": 8, "sliding_window": 128, "tie_word_embeddings": false, "num_experts": 128,
              "num_experts_per_tok": 4, "swiglu_alpha": 1.702, "swiglu_limit": 7, "rope_theta": 150000,
              "rope_parameters": {"rope_type": "yarn", "factor": 32, "beta_fast": 32, "beta_slow": 1, "truncate": false,
                                  "original_max_position_embeddings": 4096}})",
      .record = record,
      .files =
          {.rules =
               {{"model.layers.{i}.mlp.experts.{e}.gate_proj.weight", kFusedBlocks, half_rows, 0,
                 2},
                {"model.layers.{i}.mlp.experts.{e}.up_proj.weight", kFusedBlocks, half_rows, 1, 2},
                {"model.layers.{i}.mlp.experts.{e}.down_proj.weight",
                 "model.layers.{i}.mlp.experts.down_proj_blocks",
                 {Form::kExpertSlice},
                 0,
                 0},
                {"model.layers.{i}.mlp.experts.{e}.gate_proj.weight", kFused, half_matrix, 0, 2},
                {"model.layers.{i}.mlp.experts.{e}.up_proj.weight", kFused, half_matrix, 1, 2},
                {"model.layers.{i}.mlp.experts.{e}.down_proj.weight",
                 "model.layers.{i}.mlp.experts.down_proj", matrix, 0, 0},
                {"model.layers.{i}.mlp.experts.{e}.gate_proj.bias", kFusedBias, half_rows, 0, 2},
                {"model.layers.{i}.mlp.experts.{e}.up_proj.bias", kFusedBias, half_rows, 1, 2},
                {"model.layers.{i}.mlp.experts.{e}.down_proj.bias",
                 "model.layers.{i}.mlp.experts.down_proj_bias",
                 {Form::kExpertSlice},
                 0,
                 0}},
           .ignored = {}},
      .gguf = {
          .architecture = "gpt-oss",
          .experts = true,
          .window = true,
          .names = {{"model.layers.{i}.post_attention_layernorm.weight",
                     "blk.{i}.post_attention_norm.weight"},
                    {"model.layers.{i}.mlp.router.weight", "blk.{i}.ffn_gate_inp.weight"},
                    {"model.layers.{i}.mlp.router.bias", "blk.{i}.ffn_gate_inp.bias"},
                    {"model.layers.{i}.mlp.experts.{e}.gate_proj.bias",
                     "blk.{i}.ffn_gate_exps.bias"},
                    {"model.layers.{i}.mlp.experts.{e}.up_proj.bias", "blk.{i}.ffn_up_exps.bias"},
                    {"model.layers.{i}.mlp.experts.{e}.down_proj.bias",
                     "blk.{i}.ffn_down_exps.bias"}},
          .keys = {{"expert_feed_forward_length", "intermediate_size"}},
          .constants = R"({"rope_scaling": {"truncate": false}})",
          .expressible = gguf_expressible,
          .caveats = gguf_caveats}};
}

}  // namespace plumb
