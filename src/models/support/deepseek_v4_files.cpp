// Reference: transformers, conversion_mapping.py ("deepseek_v4") and
// configuration_deepseek_v4.py; DeepSeek's inference/model.py and kernel.py.
#include "models/support/deepseek_v4_files.h"

#include <cmath>

namespace plumb {
namespace {

constexpr std::int64_t kSparseRatio = 4;  // of compress_ratios: layers with overlap and an indexer

struct Renamed {
  std::string_view name;
  std::string_view stored;
};

// The release's names, and those that transformers saves: the same behind "model.". Parameters are
// named after transformers' modules.
constexpr Renamed kNames[] = {
    {"lm_head.weight", "head.weight"},
    {"model.embed_tokens.weight", "model.embed.weight"},
    {"model.hc_head.hc_fn", "model.hc_head_fn"},
    {"model.hc_head.hc_base", "model.hc_head_base"},
    {"model.hc_head.hc_scale", "model.hc_head_scale"},
    {"model.layers.{i}.input_layernorm.weight", "model.layers.{i}.attn_norm.weight"},
    {"model.layers.{i}.post_attention_layernorm.weight", "model.layers.{i}.ffn_norm.weight"},
    {"model.layers.{i}.attn_hc.fn", "model.layers.{i}.hc_attn_fn"},
    {"model.layers.{i}.attn_hc.base", "model.layers.{i}.hc_attn_base"},
    {"model.layers.{i}.attn_hc.scale", "model.layers.{i}.hc_attn_scale"},
    {"model.layers.{i}.ffn_hc.fn", "model.layers.{i}.hc_ffn_fn"},
    {"model.layers.{i}.ffn_hc.base", "model.layers.{i}.hc_ffn_base"},
    {"model.layers.{i}.ffn_hc.scale", "model.layers.{i}.hc_ffn_scale"},
    {"model.layers.{i}.self_attn.sinks", "model.layers.{i}.attn.attn_sink"},
    {"model.layers.{i}.self_attn.q_a_proj.weight", "model.layers.{i}.attn.wq_a.weight"},
    {"model.layers.{i}.self_attn.q_a_norm.weight", "model.layers.{i}.attn.q_norm.weight"},
    {"model.layers.{i}.self_attn.q_b_proj.weight", "model.layers.{i}.attn.wq_b.weight"},
    {"model.layers.{i}.self_attn.kv_proj.weight", "model.layers.{i}.attn.wkv.weight"},
    {"model.layers.{i}.self_attn.kv_norm.weight", "model.layers.{i}.attn.kv_norm.weight"},
    {"model.layers.{i}.self_attn.kv_norm.weight", "model.layers.{i}.attn.norm.weight"},
    {"model.layers.{i}.self_attn.o_a_proj.weight", "model.layers.{i}.attn.wo_a.weight"},
    {"model.layers.{i}.self_attn.o_b_proj.weight", "model.layers.{i}.attn.wo_b.weight"},
    {"model.layers.{i}.self_attn.compressor.position_bias", "model.layers.{i}.attn.compressor.ape"},
    {"model.layers.{i}.self_attn.compressor.kv_proj.weight",
     "model.layers.{i}.attn.compressor.wkv.weight"},
    {"model.layers.{i}.self_attn.compressor.gate_proj.weight",
     "model.layers.{i}.attn.compressor.wgate.weight"},
    {"model.layers.{i}.self_attn.compressor.kv_norm.weight",
     "model.layers.{i}.attn.compressor.norm.weight"},
    {"model.layers.{i}.self_attn.compressor.indexer.q_b_proj.weight",
     "model.layers.{i}.attn.indexer.wq_b.weight"},
    {"model.layers.{i}.self_attn.compressor.indexer.scorer.weights_proj.weight",
     "model.layers.{i}.attn.indexer.weights_proj.weight"},
    {"model.layers.{i}.self_attn.compressor.indexer.scorer.weights_proj.weight",
     "model.layers.{i}.self_attn.compressor.indexer.weights_proj.weight"},
    {"model.layers.{i}.self_attn.compressor.indexer.position_bias",
     "model.layers.{i}.attn.indexer.compressor.ape"},
    {"model.layers.{i}.self_attn.compressor.indexer.kv_proj.weight",
     "model.layers.{i}.attn.indexer.compressor.wkv.weight"},
    {"model.layers.{i}.self_attn.compressor.indexer.gate_proj.weight",
     "model.layers.{i}.attn.indexer.compressor.wgate.weight"},
    {"model.layers.{i}.self_attn.compressor.indexer.kv_norm.weight",
     "model.layers.{i}.attn.indexer.compressor.norm.weight"},
    {"model.layers.{i}.mlp.gate.weight", "model.layers.{i}.ffn.gate.weight"},
    {"model.layers.{i}.mlp.gate.e_score_correction_bias", "model.layers.{i}.ffn.gate.bias"},
    {"model.layers.{i}.mlp.gate.tid2eid", "model.layers.{i}.ffn.gate.tid2eid"},
    {"model.layers.{i}.mlp.shared_experts.gate_proj.weight",
     "model.layers.{i}.ffn.shared_experts.w1.weight"},
    {"model.layers.{i}.mlp.shared_experts.down_proj.weight",
     "model.layers.{i}.ffn.shared_experts.w2.weight"},
    {"model.layers.{i}.mlp.shared_experts.up_proj.weight",
     "model.layers.{i}.ffn.shared_experts.w3.weight"},
    {"model.layers.{i}.mlp.experts.{e}.gate_proj.weight",
     "model.layers.{i}.ffn.experts.{e}.w1.weight"},
    {"model.layers.{i}.mlp.experts.{e}.down_proj.weight",
     "model.layers.{i}.ffn.experts.{e}.w2.weight"},
    {"model.layers.{i}.mlp.experts.{e}.up_proj.weight",
     "model.layers.{i}.ffn.experts.{e}.w3.weight"},
};

std::string mixer_name(const Config& c, std::int64_t i, const std::vector<std::int64_t>& ratios) {
  const auto at = static_cast<std::size_t>(i);
  if (at < c.layer_types.size()) return c.layer_types[at];
  if (at < ratios.size()) {
    if (ratios[at] == 0) return "sliding_attention";
    return ratios[at] == kSparseRatio ? "compressed_sparse_attention"
                                      : "heavily_compressed_attention";
  }
  if (!ratios.empty()) {
    c.reject("compress_ratios has " + std::to_string(ratios.size()) +
             " entries, num_hidden_layers is " + std::to_string(c.num_hidden_layers));
  }
  return i >= 2 && i % 2 == 1 ? "compressed_sparse_attention" : "heavily_compressed_attention";
}

}  // namespace

const std::string_view kDeepseekV4Defaults =
    R"({"vocab_size": 129280, "hidden_size": 4096, "num_hidden_layers": 43, "num_attention_heads": 64,
        "num_key_value_heads": 1, "head_dim": 512, "q_lora_rank": 1024, "moe_intermediate_size": 2048,
        "num_experts": 256, "num_experts_per_tok": 6, "routed_scaling_factor": 1.5, "rms_norm_eps": 1e-6,
        "rope_theta": 10000, "compress_rope_theta": 160000, "max_position_embeddings": 1048576,
        "hidden_act": "silu", "hc_mult": 4, "hc_sinkhorn_iters": 20, "hc_eps": 1e-6, "swiglu_limit": 10,
        "sliding_window": 128, "o_groups": 8, "o_lora_rank": 1024, "index_n_heads": 64,
        "index_head_dim": 128, "index_topk": 512, "tie_word_embeddings": false})";

FileConventions deepseek_v4_files() {
  using Form = NameRule::Form;
  FileConventions files{.rules = {},
                        .ignored = {"mtp.*", "model.mtp.*"},
                        .prefixes = {{.canonical = "model.", .stored = ""}}};
  for (const Renamed& renamed : kNames)
    files.rules.push_back({renamed.name, renamed.stored, {Form::kSame}, 0, 0});
  files.rules.push_back({"model.layers.{i}.mlp.experts.{e}.gate_proj.weight",
                         "model.layers.{i}.mlp.experts.gate_up_proj",
                         {Form::kExpertSlice, Form::kRowRange},
                         0,
                         1});
  files.rules.push_back({"model.layers.{i}.mlp.experts.{e}.up_proj.weight",
                         "model.layers.{i}.mlp.experts.gate_up_proj",
                         {Form::kExpertSlice, Form::kRowRange},
                         1,
                         1});
  files.rules.push_back({"model.layers.{i}.mlp.experts.{e}.down_proj.weight",
                         "model.layers.{i}.mlp.experts.down_proj",
                         {Form::kExpertSlice},
                         0,
                         1});
  return files;
}

DeepseekV4Layer deepseek_v4_layer(const Config& c, std::int64_t i) {
  const auto ratios = c.integers("compress_ratios");
  const auto at = static_cast<std::size_t>(i);
  const std::string name = mixer_name(c, i, ratios);
  DeepseekV4Layer layer;
  if (name != "sliding_attention") {
    const bool sparse = name == "compressed_sparse_attention";
    if (!sparse && name != "heavily_compressed_attention")
      c.reject("layer_types names \"" + name + "\", which deepseek_v4 does not know");
    layer.mixer = sparse ? Mixer::kSparse : Mixer::kHeavy;
    layer.ratio = c.integer(sparse ? "compress_rate_csa" : "compress_rate_hca",
                            at < ratios.size() ? ratios[at]
                            : sparse           ? kSparseRatio
                                               : 128);
    layer.ratio = c.maybe_integer("compress_rates", name).value_or(layer.ratio);
  }
  const auto kinds = c.texts("mlp_layer_types");
  layer.hashed = at < kinds.size() ? kinds[at] == "hash_moe" : i < c.integer("num_hash_layers", 3);
  return layer;
}

RouterScore deepseek_v4_score(const Config& c) {
  const std::string name = c.text("scoring_func", "sqrtsoftplus");
  if (name == "sigmoid") return RouterScore::kSigmoid;
  if (name != "sqrtsoftplus") {
    c.reject("scoring_func \"" + name +
             "\" is not known; known are sqrtsoftplus and sigmoid");
  }
  return RouterScore::kSqrtSoftplus;
}

void check_deepseek_v4(const Config& c) {
  const auto reject = [&](const std::string& what) {
    c.reject(what + ", which deepseek_v4 does not know");
  };
  if (c.num_key_value_heads != 1)
    reject("num_key_value_heads is " + std::to_string(c.num_key_value_heads));
  if (c.integer("n_shared_experts", 1) != 1)
    reject("n_shared_experts is " + std::to_string(c.integer("n_shared_experts", 1)));
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    if (c.flag(key, false)) reject(std::string(key) + " is true");
  }
  if (!c.flag("norm_topk_prob", true)) reject("norm_topk_prob is false");
  if (const auto method = c.text("topk_method", "noaux_tc"); method != "noaux_tc")
    reject("topk_method is \"" + method + "\"");
}

Value narrow_cache(Builder& b, const Config& c, std::string_view stage, Value x,
                   std::int64_t channels) {
  if (!c.flag("simulate_fp8_cache", false)) return x;
  return b.narrow(stage, x,
                  {.format = StoredAs::kE4m3, .channels = channels, .block = 64, .floor = 1e-4});
}

Value narrow_index(Builder& b, const Config& c, const std::string& stage, Value x,
                   std::int64_t width) {
  if (!c.flag("simulate_fp4_index", false)) return x;
  return b.narrow(stage + "_narrow", b.hadamard(stage + "_hadamard", x),
                  {.format = StoredAs::kE2m1,
                   .channels = width,
                   .block = 32,
                   .floor = 6 * std::ldexp(1.0, -126)});
}

}  // namespace plumb
