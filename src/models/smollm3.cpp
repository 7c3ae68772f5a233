// SmolLM3: Llama, some of whose layers rotate nothing. Reference: transformers,
// models/smollm3/modeling_smollm3.py.
#include <algorithm>

#include "models/support/blocks.h"
#include "models/support/registry.h"

namespace plumb {
namespace {

// By layer; no_rope_layers holds 1 where a layer does rotate.
std::vector<bool> rotates(const Config& c) {
  const auto listed = c.integers("no_rope_layers");
  const std::int64_t interval = c.integer("no_rope_layer_interval");
  if (interval < 1)
    c.reject("no_rope_layer_interval is " + std::to_string(interval) +
             ", the least is 1");
  if (!listed.empty() && std::cmp_less(listed.size(), c.num_hidden_layers)) {
    c.reject("no_rope_layers has " + std::to_string(listed.size()) +
             " entries, the layers are " + std::to_string(c.num_hidden_layers));
  }
  std::vector<bool> result;
  for (std::int64_t i = 0; i < c.num_hidden_layers; ++i) {
    const auto index = static_cast<std::size_t>(i);
    result.push_back(index < listed.size() ? listed[index] != 0
                                           : (i + 1) % std::max<std::int64_t>(interval, 1) != 0);
  }
  return result;
}

// Without layer_types, windows are where the rotation is not.
std::optional<std::int64_t> window(const Config& c, std::int64_t i, bool rotated) {
  const bool slides = c.flag("use_sliding_window", false) && c.sliding_window.has_value();
  if (c.layer_types.empty()) return slides && !rotated ? c.sliding_window : std::nullopt;
  return switched_window(c, i);
}

Result<Graph> record(const Config& c) {
  const bool bias = c.flag("attention_bias", false);
  const bool mlp_bias = c.flag("mlp_bias", false);
  const std::vector<bool> rotated = rotates(c);
  const Rope rope = half_split_rope(c, c.rope);
  const Branch attend = [&](Builder& b, Value h, std::int64_t i) {
    const bool turns = rotated[static_cast<std::size_t>(i)];
    return self_attention(b, c, h,
                          {.qkv_bias = bias,
                           .out_bias = bias,
                           .qk_norm = std::nullopt,
                           .clip = std::nullopt,
                           .rope = turns ? std::optional(rope) : std::nullopt,
                           .attend = causal_attend(c, window(c, i, turns))});
  };
  const Branch feed = [&](Builder& b, Value m, std::int64_t) {
    return gated_mlp(b, c, m, c.integer("intermediate_size"), mlp_bias);
  };
  return pre_norm_decoder(c, rms_norm(c.rms_norm_eps), attend, feed);
}

// llama.cpp rotates all layers but each fourth, and knows no windows here.
Status expressible(const Config& c) {
  const std::vector<bool> rotated = rotates(c);
  for (std::int64_t i = 0; i < c.num_hidden_layers; ++i) {
    const bool turns = rotated[static_cast<std::size_t>(i)];
    const bool is_windowed = window(c, i, turns).has_value();
    if (turns == ((i + 1) % 4 != 0) && !is_windowed) continue;
    return Error{ErrorCode::kUnsupported, c.where() + ": the layer " + std::to_string(i) +
                                              (is_windowed ? " has a window"
                                               : turns     ? " rotates"
                                                           : " does not rotate") +
                                              ", which GGUF files of smollm3 cannot say"};
  }
  return {};
}

}  // namespace

Architecture smollm3() {
  return {
      .model_type = "smollm3",
      .defaults =
          R"({"rms_norm_eps": 1e-6, "rope_theta": 2000000, "max_position_embeddings": 32768, "hidden_act": "silu",
              "num_key_value_heads": 4, "no_rope_layer_interval": 4, "tie_word_embeddings": true})",
      .record = record,
      .gguf = {.architecture = "smollm3", .rotary_pairs = true, .expressible = expressible}};
}

}  // namespace plumb
