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

}  // namespace plumb
