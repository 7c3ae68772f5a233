// DeepSeek-V4: one shared key-value per token over a window and over compressed blocks, hashed and
// scored routing, several residual streams. Reference: transformers,
// models/deepseek_v4/modeling_deepseek_v4.py and configuration_deepseek_v4.py.
#include <cmath>
#include <functional>

#include "graph/rope.h"
#include "models/support/blocks.h"
#include "models/support/deepseek_v4_files.h"
#include "models/support/registry.h"

namespace plumb {
namespace {

// What the layers share.
struct Plan {
  std::vector<DeepseekV4Layer> layers;
  Norm norm;
  Rope window_rope;  // of layers without blocks
  Rope block_rope;   // of everything in layers with blocks
  std::int64_t rotated;
  HyperConnection hyper;
};

Rope rope_of(const Config& c, const RopeParameters& parameters, std::int64_t rotated,
             double attention_factor) {
  return {.pairing = RopePairing::kInterleaved,
          .slice = RopeSlice::kLast,
          .direction = RopeDirection::kForward,
          .dims = rotated,
          .frequencies = rope_frequencies(c, parameters),
          .attention_factor = attention_factor,
          .position_offset = 0,
          .arithmetic = WeightPrecision::kFloat32, .tables = WeightPrecision::kActivation};
}

// Two objects, or the older form: the scaling is for layers with blocks and never changes the
// magnitude unless the file says so.
void fill_ropes(const Config& c, Plan& plan) {
  const auto main = c.rope_of_layer_type.find("main");
  const auto compress = c.rope_of_layer_type.find("compress");
  const auto share = c.maybe_number("partial_rotary_factor");
  const std::int64_t named = c.integer("qk_rope_head_dim", c.head_dim / 8);
  const auto dims = [&](double factor) {
    return static_cast<std::int64_t>(static_cast<double>(c.head_dim) * factor);
  };
  RopeParameters scaled = c.rope;
  scaled.theta = c.number("compress_rope_theta");
  if (main != c.rope_of_layer_type.end() && compress != c.rope_of_layer_type.end()) {
    plan.rotated = dims(main->second.partial_rotary_factor);
    plan.window_rope = rope_of(c, main->second, plan.rotated, 1);
    plan.block_rope = rope_of(c, compress->second, dims(compress->second.partial_rotary_factor),
                              rope_attention_factor(c, compress->second));
    return;
  }
  plan.rotated = share ? dims(*share) : named;
  RopeParameters plain;
  plain.theta = c.rope.theta;
  plan.window_rope = rope_of(c, plain, plan.rotated, 1);
  plan.block_rope = rope_of(c, scaled, plan.rotated, c.rope.attention_factor.value_or(1));
}

Plan plan_of(const Config& c) {
  Norm norm = rms_norm(c.rms_norm_eps);
  norm.rounding = Rounding::kAfterFloat32Weight;
  Plan plan{.layers = {},
            .norm = norm,
            .window_rope = {},
            .block_rope = {},
            .rotated = 0,
            .hyper = {.streams = c.integer("hc_mult"),
                      .mixes = true,
                      .norm_eps = c.rms_norm_eps,
                      .eps = c.number("hc_eps"),
                      .post_scale = 2,
                      .iterations = c.integer("hc_sinkhorn_iters"),
                      .start = SinkhornStart::kColumns}};
  for (std::int64_t i = 0; i < c.num_hidden_layers; ++i)
    plan.layers.push_back(deepseek_v4_layer(c, i));
  fill_ropes(c, plan);
  return plan;
}

// A list of entries of `width` channels, one for each block, under `stage` and `weights`.
Value compressed(Builder& b, const Config& c, const Plan& plan, const DeepseekV4Layer& layer,
                 Value x, std::int64_t width, const std::string& stage,
                 const std::string& weights) {
  const bool overlap = layer.mixer == Mixer::kSparse;
  const Linear wide = projection({overlap ? 2 * width : width}, false);
  const Value kv = b.linear(stage + "_kv", x, weights + "kv_proj", wide);
  const Value scores = b.linear(stage + "_gate", x, weights + "gate_proj", wide);
  const CompressedBlocks blocks = b.compress(stage + "_pooled", kv, scores,
                                             {.ratio = layer.ratio,
                                              .overlap = overlap,
                                              .position_bias = true,
                                              .before_first = BeforeFirst::kAbsent,
                                              .position = BlockPosition::kFirstToken},
                                             weights + "position_bias");
  const Value normed = b.norm(stage + "_norm", blocks.pooled, weights + "kv_norm", plan.norm);
  Value rows = b.rope(stage + "_rope", normed, plan.block_rope, blocks.positions);
  if (stage == "attn.compressed") {
    rows = narrow_cache(b, c, stage + "_narrow", rows, width - plan.rotated);
  } else {
    rows = narrow_index(b, c, stage, rows, width);
  }
  return b.collect(stage, rows, layer.ratio);
}

Value chosen_blocks(Builder& b, const Config& c, const Plan& plan, const DeepseekV4Layer& layer,
                    Value x, Value latent) {
  const std::int64_t heads = c.integer("index_n_heads");
  const std::int64_t width = c.integer("index_head_dim");
  const std::string weights = "self_attn.compressor.indexer.";
  const Value entries = compressed(b, c, plan, layer, x, width, "attn.index_entries", weights);
  const Value q =
      b.linear("attn.index_q", latent, weights + "q_b_proj", projection({heads, width}, false));
  const Value rotated = b.rope("attn.index_q_rope", q, plan.block_rope);
  const Value share = b.linear("attn.index_weights", x, weights + "scorer.weights_proj",
                               projection({heads}, false));
  return b.index("attn.selected", narrow_index(b, c, "attn.index_q", rotated, width), share,
                 entries,
                 {.blocks = {.ratio = layer.ratio, .ahead = 1},
                  .chosen = c.integer("index_topk"),
                  .rectified = true,
                  .score_scale = 1 / std::sqrt(static_cast<double>(width)),
                  .weight_scale = 1 / std::sqrt(static_cast<double>(heads))});
}

Value attention(Builder& b, const Config& c, const Plan& plan, const DeepseekV4Layer& layer,
                Value x) {
  const bool blocks = layer.mixer != Mixer::kWindow;
  const Rope& rope = blocks ? plan.block_rope : plan.window_rope;
  Norm head_norm = rms_norm(c.rms_norm_eps);
  head_norm.rounding = Rounding::kFactor;
  const Shape heads = {c.num_attention_heads, c.head_dim};

  const Value q_a =
      b.linear("attn.q_a", x, "self_attn.q_a_proj", projection({c.integer("q_lora_rank")}, false));
  const Value latent = b.norm("attn.q_a_norm", q_a, "self_attn.q_a_norm", plan.norm);
  Value q = b.linear("attn.q", latent, "self_attn.q_b_proj", projection(heads, false));
  q = b.norm("attn.q_norm", q, std::nullopt, head_norm);
  q = b.rope("attn.q_rope", q, rope);
  Value kv = b.linear("attn.kv", x, "self_attn.kv_proj", projection({c.head_dim}, false));
  kv = b.norm("attn.kv_norm", kv, "self_attn.kv_norm", plan.norm);
  kv = b.rope("attn.kv_rope", kv, rope);
  kv = narrow_cache(b, c, "attn.kv_narrow", kv, c.head_dim - plan.rotated);

  std::optional<Value> entries;
  std::optional<Value> chosen;
  if (blocks) {
    entries =
        compressed(b, c, plan, layer, x, c.head_dim, "attn.compressed", "self_attn.compressor.");
  }
  if (layer.mixer == Mixer::kSparse) chosen = chosen_blocks(b, c, plan, layer, x, latent);
  const Value context = b.attend_shared(
      "attn", q, kv, entries, chosen,
      {.scale = 1 / std::sqrt(static_cast<double>(c.head_dim)),
       .window = c.integer("sliding_window"),
       .sinks = true,
       .blocks = blocks ? std::optional(Blocks{.ratio = layer.ratio, .ahead = 1}) : std::nullopt,
       .chosen = chosen.has_value()},
      "self_attn.sinks");
  Rope back = rope;
  back.direction = RopeDirection::kInverse;
  const Value unrotated = b.rope("attn.context_unrope", context, back);
  const std::int64_t groups = c.integer("o_groups");
  const Value narrow =
      b.grouped_linear("attn.out_a", unrotated, "self_attn.o_a_proj",
                       {.out = {groups, c.integer("o_lora_rank")}, .groups = groups});
  return b.linear("attn.out", narrow, "self_attn.o_b_proj", projection({c.hidden_size}, false));
}

Value mixture(Builder& b, const Config& c, const DeepseekV4Layer& layer, Value x) {
  const std::int64_t experts = c.integer("num_experts");
  const std::int64_t width = c.integer("moe_intermediate_size");
  Gated gated = gate_of(c);
  gated.limit = c.number("swiglu_limit");
  const Value scores = b.linear("moe.logits", x, "mlp.gate", projection({experts}, false));
  const RouterValues routing =
      b.router("moe", scores,
               {.experts = experts,
                .chosen = c.integer("num_experts_per_tok"),
                .choice = layer.hashed ? RouterChoice::kTable : RouterChoice::kLargest,
                .score = deepseek_v4_score(c),
                .order = RouterOrder::kScoreThenSelect,
                .selection_bias = layer.hashed ? SelectionBias::kNone : SelectionBias::kChoice,
                .groups = std::nullopt,
                .renormalise = true,
                .sum_epsilon = 1e-20,
                .scale = c.number("routed_scaling_factor"),
                .arithmetic = WeightPrecision::kActivation,
                .precision = WeightPrecision::kActivation},
               layer.hashed ? std::nullopt
                            : std::optional<std::string_view>("mlp.gate.e_score_correction_bias"),
               layer.hashed ? std::optional<std::string_view>("mlp.gate.tid2eid") : std::nullopt);
  const Value routed =
      b.experts("moe.routed", x, routing,
                {.gate = "mlp.experts.{e}.gate_proj",
                 .up = "mlp.experts.{e}.up_proj",
                 .down = "mlp.experts.{e}.down_proj"},
                {.experts = experts, .width = width, .gated = gated, .bias = false});
  return b.add("mlp.out", routed,
               shared_mlp(b, c, "moe.shared", "mlp.shared_experts", x, width, gated),
               {.factor = 1});
}

Result<Graph> record(const Config& c) {
  check_deepseek_v4(c);
  const Plan plan = plan_of(c);
  Builder b(c);
  Value streams = b.embed("embed", "model.embed_tokens",
                          {.scale = 1, .scale_precision = ScalePrecision::kActivation});
  streams = b.repeat("streams", streams, {.copies = plan.hyper.streams});
  // One half of a layer: the streams become one input, whose branch is mixed into them.
  const auto half = [&](const std::string& name, const std::string& weights,
                        const std::string& norm, const std::string& norm_weight,
                        const std::string& out, const std::function<Value(Value)>& branch) {
    const HyperValues hyper = b.hyper_connection(name, streams, weights, plan.hyper);
    const Value x = b.collapse(name + ".collapsed", streams, hyper.pre);
    const Value y = branch(b.norm(norm, x, norm_weight, plan.norm));
    streams = b.mix(out, streams, y, hyper, {.incoming = StreamAxis::kFirst});
  };
  for (std::int64_t i = 0; i < c.num_hidden_layers; ++i) {
    const auto prefix = b.layer(i);
    const DeepseekV4Layer& layer = plan.layers[static_cast<std::size_t>(i)];
    half("hc_attn", "attn_hc.", "attn.norm", "input_layernorm", "hc_attn.streams",
         [&](Value h) { return attention(b, c, plan, layer, h); });
    half("hc_mlp", "ffn_hc.", "mlp.norm", "post_attention_layernorm", "streams",
         [&](Value m) { return mixture(b, c, layer, m); });
  }
  HyperConnection head = plan.hyper;
  head.mixes = false;
  const Value pre = b.hyper_connection("hc_head", streams, "model.hc_head.hc_", head).pre;
  const Value x =
      b.norm("norm", b.collapse("hc_head.collapsed", streams, pre), "model.norm", plan.norm);
  b.logits("logits", x, c.tie_word_embeddings ? "model.embed_tokens" : "lm_head",
           {.soft_cap = std::nullopt, .scale = 1});
  return b.finish();
}

}  // namespace

Architecture deepseek_v4() {
  return {.model_type = "deepseek_v4",
          .defaults = kDeepseekV4Defaults,
          .record = record, .rotates_part = true,
          .files = deepseek_v4_files(), .gguf = deepseek_v4_gguf()};
}

}  // namespace plumb
