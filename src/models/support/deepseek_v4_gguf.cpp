// DeepSeek-V4's form in GGUF files: llama.cpp, conversion/deepseek.py (DeepseekV4Model) and models/deepseek4.cpp.
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "models/support/deepseek_v4_files.h"
#include "models/support/expert_files.h"

namespace plumb {
namespace {

using Json = nlohmann::json;

// The rotation of layers with blocks, which alone is scaled.
const RopeParameters& block_rope(const Config& c) {
  const auto compress = c.rope_of_layer_type.find("compress");
  return compress == c.rope_of_layer_type.end() ? c.rope : compress->second;
}

double share_rotated(const Config& c) {
  const auto main = c.rope_of_layer_type.find("main");
  if (main != c.rope_of_layer_type.end()) return main->second.partial_rotary_factor;
  if (const auto share = c.maybe_number("partial_rotary_factor")) return *share;
  return static_cast<double>(c.integer("qk_rope_head_dim", c.head_dim / 8)) /
         static_cast<double>(c.head_dim);
}

Json scaling_of(const RopeParameters& rope) {
  if (rope.type == "default") return nullptr;
  Json scaling = {{"rope_type", rope.type}};
  const auto put = [&](const char* key, const std::optional<double>& value) {
    if (value) scaling[key] = *value;
  };
  put("factor", rope.factor);
  put("original_max_position_embeddings", rope.original_max_position_embeddings);
  put("beta_fast", rope.beta_fast);
  put("beta_slow", rope.beta_slow);
  return scaling;
}

// The release's form of the configuration, which is what a file can say.
std::string release_form(const Config& c) {
  const auto main = c.rope_of_layer_type.find("main");
  const bool nested = main != c.rope_of_layer_type.end();
  Json ratios = Json::array();
  std::int64_t hashed = 0;
  for (std::int64_t i = 0; i < c.num_hidden_layers; ++i) {
    const DeepseekV4Layer layer = deepseek_v4_layer(c, i);
    ratios.push_back(layer.ratio);
    hashed += layer.hashed ? 1 : 0;
  }
  return Json{{"layer_types", nullptr},
              {"mlp_layer_types", nullptr},
              {"compress_rates", nullptr},
              {"rope_parameters", nullptr},
              {"partial_rotary_factor", nullptr},
              {"rope_theta", nested ? main->second.theta : c.rope.theta},
              {"rope_scaling", scaling_of(block_rope(c))},
              {"compress_rope_theta",
               nested ? block_rope(c).theta : c.number("compress_rope_theta")},
              {"qk_rope_head_dim", static_cast<std::int64_t>(share_rotated(c) *
                                                             static_cast<double>(c.head_dim))},
              {"compress_ratios", ratios},
              {"num_hash_layers", hashed},
              {"n_shared_experts", 1},
              {"norm_topk_prob", true}}
      .dump();
}

Status expressible(const Config& c) {
  const auto unsaid = [&](const std::string& what) {
    return Error{ErrorCode::kUnsupported,
                 c.where() + ": " + what + ", which GGUF files of deepseek4 cannot say"};
  };
  bool was_scored = false;
  for (std::int64_t i = 0; i < c.num_hidden_layers; ++i) {
    const DeepseekV4Layer layer = deepseek_v4_layer(c, i);
    const bool is_sparse = layer.mixer == Mixer::kSparse;
    if (layer.mixer != Mixer::kWindow && (is_sparse != (layer.ratio == 4) || layer.ratio < 1)) {
      return unsaid("the layer " + std::to_string(i) + " makes blocks of " +
                    std::to_string(layer.ratio) + (is_sparse ? " and chooses" : " and reads all"));
    }
    if (layer.hashed && was_scored)
      return unsaid("the layer " + std::to_string(i) + " is hashed behind one that is scored");
    was_scored = was_scored || !layer.hashed;
  }
  const RopeParameters& rope = block_rope(c);
  if (rope.type != "default" && rope.type != "yarn")
    return unsaid("rope_type is \"" + rope.type + "\"");
  const bool keeps_magnitude =
      rope.attention_factor ? *rope.attention_factor == 1
                            : c.rope_of_layer_type.empty() || rope.type == "default";
  if (!keeps_magnitude) return unsaid("the attention_factor of blocks is not 1");
  if (c.text("scoring_func", "sqrtsoftplus") != "sqrtsoftplus")
    return unsaid("scoring_func is not sqrtsoftplus");
  for (const char* key : {"simulate_fp8_cache", "simulate_fp4_index"}) {
    if (c.flag(key, false)) return unsaid(std::string(key) + " is true");
  }
  return {};
}

std::vector<std::string> caveats(const Config& c) {
  std::vector<std::string> sentences;
  for (std::int64_t i = 0; i < c.num_hidden_layers; ++i) {
    const DeepseekV4Layer layer = deepseek_v4_layer(c, i);
    if (layer.mixer != Mixer::kHeavy || layer.ratio == 128) continue;
    sentences.push_back("llama.cpp does not load it: the layer " + std::to_string(i) +
                        " makes blocks of " + std::to_string(layer.ratio) +
                        ", and it knows only 4 and 128");
    break;
  }
  // llama-kv-cache.cpp, build_input_k_rot: keys of the index are rotated by a Hadamard matrix of at least 64.
  const std::int64_t width = c.integer("index_head_dim", 128);
  if (width % 64 != 0)
    sentences.push_back("llama.cpp stops at the first token: index_head_dim is " +
                        std::to_string(width) + ", and it takes multiples of 64");
  return sentences;
}

std::vector<GgufName> names() {
  static constexpr std::pair<std::string_view, std::string_view> kNames[] = {
      {"model.hc_head.hc_fn", "output_hc_fn.weight"},
      {"model.hc_head.hc_base", "output_hc_base.weight"},
      {"model.hc_head.hc_scale", "output_hc_scale.weight"},
      {"model.layers.{i}.attn_hc.fn", "blk.{i}.hc_attn_fn.weight"},
      {"model.layers.{i}.attn_hc.base", "blk.{i}.hc_attn_base.weight"},
      {"model.layers.{i}.attn_hc.scale", "blk.{i}.hc_attn_scale.weight"},
      {"model.layers.{i}.ffn_hc.fn", "blk.{i}.hc_ffn_fn.weight"},
      {"model.layers.{i}.ffn_hc.base", "blk.{i}.hc_ffn_base.weight"},
      {"model.layers.{i}.ffn_hc.scale", "blk.{i}.hc_ffn_scale.weight"},
      {"model.layers.{i}.self_attn.q_a_proj.weight", "blk.{i}.attn_q_a.weight"},
      {"model.layers.{i}.self_attn.q_a_norm.weight", "blk.{i}.attn_q_a_norm.weight"},
      {"model.layers.{i}.self_attn.q_b_proj.weight", "blk.{i}.attn_q_b.weight"},
      {"model.layers.{i}.self_attn.kv_proj.weight", "blk.{i}.attn_kv.weight"},
      {"model.layers.{i}.self_attn.kv_norm.weight", "blk.{i}.attn_kv_a_norm.weight"},
      {"model.layers.{i}.self_attn.o_a_proj.weight", "blk.{i}.attn_output_a.weight"},
      {"model.layers.{i}.self_attn.o_b_proj.weight", "blk.{i}.attn_output_b.weight"},
      {"model.layers.{i}.self_attn.compressor.position_bias",
       "blk.{i}.attn_compressor_ape.weight"},
      {"model.layers.{i}.self_attn.compressor.kv_proj.weight",
       "blk.{i}.attn_compressor_kv.weight"},
      {"model.layers.{i}.self_attn.compressor.gate_proj.weight",
       "blk.{i}.attn_compressor_gate.weight"},
      {"model.layers.{i}.self_attn.compressor.kv_norm.weight",
       "blk.{i}.attn_compressor_norm.weight"},
      {"model.layers.{i}.self_attn.compressor.indexer.q_b_proj.weight",
       "blk.{i}.indexer.attn_q_b.weight"},
      {"model.layers.{i}.self_attn.compressor.indexer.scorer.weights_proj.weight",
       "blk.{i}.indexer.proj.weight"},
      {"model.layers.{i}.self_attn.compressor.indexer.position_bias",
       "blk.{i}.indexer_compressor_ape.weight"},
      {"model.layers.{i}.self_attn.compressor.indexer.kv_proj.weight",
       "blk.{i}.indexer_compressor_kv.weight"},
      {"model.layers.{i}.self_attn.compressor.indexer.gate_proj.weight",
       "blk.{i}.indexer_compressor_gate.weight"},
      {"model.layers.{i}.self_attn.compressor.indexer.kv_norm.weight",
       "blk.{i}.indexer_compressor_norm.weight"},
      {"model.layers.{i}.mlp.gate.e_score_correction_bias", "blk.{i}.exp_probs_b.bias"},
      {"model.layers.{i}.mlp.gate.tid2eid", "blk.{i}.ffn_gate_tid2eid.weight"},
  };
  std::vector<GgufName> names = shared_experts_gguf_names();
  for (const auto& [name, stored] : kNames)
    names.push_back({name, stored});
  return names;
}

}  // namespace

GgufConventions deepseek_v4_gguf() {
  using Type = GgufKey::Type;
  constexpr std::uint32_t kSqrtSoftplus = 4;  // gguf/constants.py, ExpertGatingFuncType
  return {
      .architecture = "deepseek4",
      .experts = true,
      .names = names(),
      .keys = {{"rope.dimension_count", "qk_rope_head_dim"},
               {"attention.q_lora_rank", "q_lora_rank"},
               {"attention.output_group_count", "o_groups"},
               {"attention.output_lora_rank", "o_lora_rank"},
               {"attention.compress_ratios", "compress_ratios", Type::kCounts},
               {"attention.compress_rope_freq_base", "compress_rope_theta", Type::kNumber},
               {"attention.indexer.head_count", "index_n_heads"},
               {"attention.indexer.key_length", "index_head_dim"},
               {"attention.indexer.top_k", "index_topk"},
               {"hyper_connection.count", "hc_mult"},
               {"hyper_connection.sinkhorn_iterations", "hc_sinkhorn_iters"},
               {"hyper_connection.epsilon", "hc_eps", Type::kNumber},
               {.key = "embedding_length_out",
                .config = "hidden_size",
                .times = "hc_mult",
                .derived = true},
               {"hash_layer_count", "num_hash_layers"},
               {"expert_shared_count", "n_shared_experts"},
               {"expert_weights_scale", "routed_scaling_factor", Type::kNumber},
               {"expert_weights_norm", "norm_topk_prob", Type::kFlag},
               {"swiglu_clamp_exp", "swiglu_limit", Type::kNumberOfLayers},
               {.key = "swiglu_clamp_shexp",
                .config = "swiglu_limit",
                .type = Type::kNumberOfLayers,
                .derived = true}},
      .fixed = {{"expert_gating_func", kSqrtSoftplus, true}},
      .required = {"attention.compress_ratios", "hash_layer_count"},
      .said_as = release_form,
      .expressible = expressible,
      .caveats = caveats};
}

}  // namespace plumb
