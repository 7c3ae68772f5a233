// OLMo-2: nothing is normalised before a half, its output is after it; norms over all heads of
// queries and keys together. Reference: transformers, models/olmo2/modeling_olmo2.py.
#include "models/support/olmo.h"

namespace plumb {
namespace {

Result<Graph> record(const Config& c) {
  const Rope rope = half_split_rope(c, c.rope);
  return olmo_graph(c, [&](std::int64_t) { return OlmoLayer{rope, std::nullopt}; });
}

}  // namespace

Architecture olmo2() {
  return {
      .model_type = "olmo2",
      .defaults =
          R"({"rms_norm_eps": 1e-5, "rope_theta": 10000, "max_position_embeddings": 2048, "hidden_act": "silu",
              "tie_word_embeddings": false})",
      .record = record,
      .gguf = {.architecture = "olmo2",
               .names = {{"model.layers.{i}.post_attention_layernorm.weight",
                          "blk.{i}.post_attention_norm.weight"},
                         {"model.layers.{i}.post_feedforward_layernorm.weight",
                          "blk.{i}.post_ffw_norm.weight"}},
               .caveats = olmo_caveats}};
}

}  // namespace plumb
