// What OLMo-2 and OLMo-3 share: post-norms only, norms over all heads of queries and keys together,
// rotation in float32.
#pragma once
#include <functional>

#include "models/support/blocks.h"
#include "models/support/registry.h"

namespace plumb {

struct OlmoLayer {
  Rope rope;
  std::optional<std::int64_t> window;
};

Result<Graph> olmo_graph(const Config& c,
                         const std::function<OlmoLayer(std::int64_t layer)>& layer);

// llama.cpp takes hidden_size / num_attention_heads for the width of a head.
std::vector<std::string> olmo_caveats(const Config& config);

}  // namespace plumb
