// Pieces of the hybrid decoders, in which most layers keep a recurrent state and the others attend.
// Reference: transformers, models/qwen3_next/modeling_qwen3_next.py and those that derive from it.
#pragma once
#include <cstdint>
#include <functional>
#include <string_view>

#include "graph/builder.h"
#include "models/support/blocks.h"

namespace plumb {

// The norm that multiplies by 1 + w and rounds once (Qwen3NextRMSNorm).
Norm centred_norm(double eps);

// Attention whose query projection yields [query | gate] for each head; sigmoid(gate) multiplies
// the context (Qwen3NextAttention).
Value gated_attention(Builder& b, const Config& c, Value x, const Norm& norm, const Rope& rope);

// The linear_* keys of the configuration, checked.
struct DeltaSizes {
  std::int64_t key_heads;
  std::int64_t key_dim;
  std::int64_t value_heads;
  std::int64_t value_dim;
  std::int64_t taps;
};
DeltaSizes delta_sizes(const Config& c);

// What a gated delta-net projects from its input, flat.
struct DeltaProjections {
  Value qkv;    // all query heads, all key heads, all value heads
  Value z;      // the output gate, as large as all value heads
  Value beta;   // [value_heads], before the sigmoid
  Value decay;  // [value_heads], before the softplus
};
using DeltaProject = std::function<DeltaProjections(Builder& b, Value x)>;

// A projection for each (Qwen3_5GatedDeltaNet).
DeltaProject split_projections(const Config& c);

// From the projections to the output projection (Qwen3NextGatedDeltaNet).
Value delta_net(Builder& b, const Config& c, const DeltaSizes& sizes, const DeltaProjections& in);

// Routed experts beside one that serves every token, under a gate of its own
// (Qwen3NextSparseMoeBlock).
Value shared_expert_mlp(Builder& b, const Config& c, Value x, bool renormalise);

// The whole decoder: layer_types, or where the file has none full_attention_interval, says which
// layers attend.
Result<Graph> hybrid_decoder(const Config& c, const DeltaProject& project, const Branch& mlp);

}  // namespace plumb
