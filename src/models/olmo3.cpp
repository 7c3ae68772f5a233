// OLMo-3: OLMo-2 with windows in three layers of four; the rotation of the full ones may be scaled.
// Reference: transformers, models/olmo3/modeling_olmo3.py.
#include "models/support/olmo.h"

namespace plumb {
namespace {

Result<Graph> record(const Config& c) {
  return olmo_graph(c, [&](std::int64_t i) {
    const std::string_view type = layer_type(c, i, 4);
    return OlmoLayer{layer_rope(c, type), layer_window(c, type)};
  });
}

}  // namespace

Architecture olmo3() {
  // Where a file gives one rope_theta, Olmo3Config.convert_rope_params_to_dict takes it for the full
  // layers alone: the windowed ones keep the class's base.
  return {
      .model_type = "olmo3",
      .defaults =
          R"({"rms_norm_eps": 1e-5, "rope_theta": 500000, "rope_local_base_freq": 500000, "hidden_act": "silu",
              "max_position_embeddings": 2048, "sliding_window": 4096, "tie_word_embeddings": false})",
      .record = record,
      .gguf = {.architecture = "olmo2",
               .window = true,
               .window_shares_base = true,
               .names = {{"model.layers.{i}.post_attention_layernorm.weight",
                          "blk.{i}.post_attention_norm.weight"},
                         {"model.layers.{i}.post_feedforward_layernorm.weight",
                          "blk.{i}.post_ffw_norm.weight"}},
               .caveats = olmo_caveats}};
}

}  // namespace plumb
