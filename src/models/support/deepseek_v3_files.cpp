// DeepSeek-V3's form in GGUF files.
#include "models/support/deepseek_v3_files.h"

#include <iterator>
#include <string>
#include <vector>

#include "models/support/expert_files.h"

namespace plumb {
namespace {

// llama.cpp, conversion/deepseek.py (DeepseekV2Model) and models/deepseek2.cpp: keys and values are taken out of the latent by
// two stacks, that of the keys transposed, and the rotated channels are pairs beside each other as here.
std::vector<SplitRule> gguf_splits(const Config& c) {
  using Layout = SplitRule::Layout;
  return {{.name = "model.layers.{i}.self_attn.kv_b_proj.weight",
           .groups = c.num_attention_heads,
           .parts = {{"blk.{i}.attn_k_b.weight", c.integer("qk_nope_head_dim"), Layout::kTransposedStack},
                     {"blk.{i}.attn_v_b.weight", c.integer("v_head_dim"), Layout::kStack}}}};
}

Status gguf_expressible(const Config& c) {
  const auto unsaid = [&](const std::string& what) {
    return Error{ErrorCode::kUnsupported,
                 c.where() + ": " + what + ", which GGUF files of deepseek2 cannot say"};
  };
  if (!c.flag("rope_interleave", true)) return unsaid("rope_interleave is false");
  if (c.rope.type == "default") return {};
  if (c.rope.type != "yarn") return unsaid("rope_type is \"" + c.rope.type + "\"");
  if (c.rope.attention_factor) return unsaid("rope_parameters has an attention_factor");
  if (c.rope.mscale_all_dim.value_or(0) == 0 || c.rope.mscale != c.rope.mscale_all_dim)
    return unsaid("rope_parameters has an mscale that is not its mscale_all_dim");
  return {};
}

std::vector<std::string> gguf_caveats(const Config& c) {
  std::vector<std::string> sentences;
  // A file says it in float32.
  if (static_cast<float>(c.rms_norm_eps) != static_cast<float>(kDeepseekV3LatentEps)) {
    sentences.emplace_back(
        "llama.cpp computes otherwise: rms_norm_eps is not 1e-6, which the norms of the latents keep, and it has one epsilon "
        "for all");
  }
  if (!c.has("q_lora_rank"))
    sentences.emplace_back("llama.cpp does not load it: there is no q_lora_rank");
  if (c.integer("n_group") > 1 && c.integer("n_group") == c.integer("topk_group"))
    sentences.emplace_back("llama.cpp does not load it: topk_group is n_group");
  return sentences;
}

std::vector<GgufName> gguf_names() {
  std::vector<GgufName> names = shared_experts_gguf_names();
  const GgufName own[] = {
      {"model.layers.{i}.self_attn.q_a_proj.weight", "blk.{i}.attn_q_a.weight"},
      {"model.layers.{i}.self_attn.q_a_layernorm.weight", "blk.{i}.attn_q_a_norm.weight"},
      {"model.layers.{i}.self_attn.q_b_proj.weight", "blk.{i}.attn_q_b.weight"},
      {"model.layers.{i}.self_attn.kv_a_proj_with_mqa.weight", "blk.{i}.attn_kv_a_mqa.weight"},
      {"model.layers.{i}.self_attn.kv_a_layernorm.weight", "blk.{i}.attn_kv_a_norm.weight"},
      {"model.layers.{i}.mlp.gate.e_score_correction_bias", "blk.{i}.exp_probs_b.bias"}};
  names.insert(names.end(), std::begin(own), std::end(own));
  return names;
}

}  // namespace

GgufConventions deepseek_v3_gguf() {
  using Type = GgufKey::Type;
  constexpr std::uint32_t kSigmoid = 2;  // gguf/constants.py, ExpertGatingFuncType
  return {
      .architecture = "deepseek2",
      .experts = true,
      .names = gguf_names(),
      .splits = gguf_splits,
      .keys = {{"rope.dimension_count", "qk_rope_head_dim"},
               {"attention.q_lora_rank", "q_lora_rank"},
               {"attention.kv_lora_rank", "kv_lora_rank"},
               // Of the one head of keys and values that the latent is.
               {.key = "attention.key_length",
                .config = "kv_lora_rank",
                .plus = "qk_rope_head_dim",
                .derived = true},
               {.key = "attention.value_length", .config = "kv_lora_rank", .derived = true},
               {.key = "attention.key_length_mla",
                .config = "qk_nope_head_dim",
                .plus = "qk_rope_head_dim"},
               {"attention.value_length_mla", "v_head_dim"},
               {"leading_dense_block_count", "first_k_dense_replace"},
               {"expert_shared_count", "n_shared_experts"},
               {"expert_group_count", "n_group"},
               {"expert_group_used_count", "topk_group"},
               {"expert_weights_scale", "routed_scaling_factor", Type::kNumber},
               {"expert_weights_norm", "norm_topk_prob", Type::kFlag}},
      .fixed = {{"attention.head_count_kv", 1, false}, {"expert_gating_func", kSigmoid, true}},
      .required = {"attention.key_length_mla", "attention.value_length_mla"},
      .absent = R"({"q_lora_rank": null, "n_group": 1, "topk_group": 1, "norm_topk_prob": false,
                    "routed_scaling_factor": 1, "first_k_dense_replace": 0, "n_shared_experts": 0})",
      .yarn_log_multiplier = 0.1F,
      .expressible = gguf_expressible,
      .caveats = gguf_caveats};
}

}  // namespace plumb
