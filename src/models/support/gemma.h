// What Gemma 2 and Gemma 3 share: a scaled embedding, norms by 1 + w around both halves of a layer,
// a scale of attention of its own, windows in some layers, and a cap on the logits.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

#include "models/support/registry.h"

namespace plumb {

struct Gemma {
  bool qk_norm;                        // of each head
  std::optional<double> cap;           // of attention's scores
  std::int64_t full_attention_period;  // without layer_types: each such layer sees everything
};

Result<Graph> gemma_graph(const Config& c, const Gemma& gemma);

// The cap that `key` gives, if any.
std::optional<double> soft_cap(const Config& c, std::string_view key);

// What llama.cpp takes for query_pre_attn_scalar, which its files do not say: head_dim, or in models of `wide` layers
// hidden_size / num_attention_heads. A sentence where that is another value.
std::vector<std::string> gemma_caveats(const Config& config, std::int64_t wide);

}  // namespace plumb
