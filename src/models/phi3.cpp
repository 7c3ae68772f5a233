// Phi-3: Llama whose q, k, v and whose gate, up are stored as one matrix each; longrope, partial
// rotation. Reference: transformers, models/phi3/modeling_phi3.py.
#include "models/support/blocks.h"
#include "models/support/registry.h"

namespace plumb {
namespace {

// Phi3Config: "su" and "yarn" are former names of longrope, and the length of the pre-training is a
// key of its own that rope_parameters does not override.
RopeParameters rope_parameters(const Config& c) {
  RopeParameters parameters = c.rope;
  if (parameters.type == "su" || parameters.type == "yarn") parameters.type = "longrope";
  parameters.original_max_position_embeddings = c.number("original_max_position_embeddings");
  if (parameters.type != "longrope" && parameters.type != "default") {
    c.reject("rope_type \"" + parameters.type +
             "\" is not known to phi3; known are default and longrope");
  }
  return parameters;
}

Result<Graph> record(const Config& c) {
  const SelfAttention attention{.qkv_bias = false,
                                .out_bias = false,
                                .qk_norm = std::nullopt,
                                .clip = std::nullopt,
                                .rope = half_split_rope(c, rope_parameters(c)),
                                .attend = causal_attend(c, c.sliding_window)};
  const Branch attend = [&](Builder& b, Value h, std::int64_t) {
    return self_attention(b, c, h, attention);
  };
  const Branch feed = [&](Builder& b, Value m, std::int64_t) {
    return gated_mlp(b, c, m, c.integer("intermediate_size"), false);
  };
  return pre_norm_decoder(c, rms_norm(c.rms_norm_eps), attend, feed);
}

std::vector<std::string> gguf_caveats(const Config& c) {
  std::vector<std::string> sentences;
  if (c.sliding_window && *c.sliding_window < c.max_position_embeddings)
    sentences.emplace_back("llama.cpp computes otherwise: it takes no notice of sliding_window");
  if (c.rope.type != "default") {
    sentences.emplace_back(
        "llama.cpp computes otherwise: it takes the long factors by the size of its context, not by the length of the text");
  }
  return sentences;
}

}  // namespace

Architecture phi3() {
  using Form = NameRule::Form;
  constexpr std::string_view kQkv = "model.layers.{i}.self_attn.qkv_proj.weight";
  constexpr std::string_view kGateUp = "model.layers.{i}.mlp.gate_up_proj.weight";
  return {
      .model_type = "phi3",
      .defaults =
          R"({"rms_norm_eps": 1e-5, "rope_theta": 10000, "max_position_embeddings": 4096, "hidden_act": "silu",
              "original_max_position_embeddings": 4096, "tie_word_embeddings": false})",
      .record = record,
      .rotates_part = true,
      .files =
          {.rules = {{"model.layers.{i}.self_attn.q_proj.weight", kQkv, {Form::kRowRange}, 0, 1},
                     {"model.layers.{i}.self_attn.k_proj.weight", kQkv, {Form::kRowRange}, -2, 1},
                     {"model.layers.{i}.self_attn.v_proj.weight", kQkv, {Form::kRowRange}, -1, 1},
                     {"model.layers.{i}.mlp.gate_proj.weight", kGateUp, {Form::kRowRange}, 0, 1},
                     {"model.layers.{i}.mlp.up_proj.weight", kGateUp, {Form::kRowRange}, 1, 1}},
           .ignored = {}},
      .gguf = {
          .architecture = "phi3",
          .names = {{"model.layers.{i}.self_attn.q_proj.weight", "blk.{i}.attn_qkv.weight", 0},
                    {"model.layers.{i}.self_attn.k_proj.weight", "blk.{i}.attn_qkv.weight", -2},
                    {"model.layers.{i}.self_attn.v_proj.weight", "blk.{i}.attn_qkv.weight", -1},
                    {"model.layers.{i}.mlp.gate_proj.weight", "blk.{i}.ffn_up.weight", 0},
                    {"model.layers.{i}.mlp.up_proj.weight", "blk.{i}.ffn_up.weight", 1}},
          .caveats = gguf_caveats}};
}

}  // namespace plumb
