// Architecture: what one file of src/models says about a family of checkpoints. The build registers
// every file by its name.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "graph/builder.h"
#include "graph/graph.h"
#include "io/config.h"
#include "io/gguf/conventions.h"
#include "io/weight_map.h"

namespace plumb {

struct Architecture {
  std::string_view model_type;  // as config.json names it
  std::string_view
      defaults;  // JSON object: what the reference's configuration class assumes for absent keys
  Result<Graph> (*record)(const Config& config);
  bool rotates_part = false;  // the reference heeds partial_rotary_factor; elsewhere it rotates whole heads whatever the key says
  FileConventions files = {};
  // Other model_types of the same computation: the same text model inside a wrapper, or without it.
  std::vector<std::string_view> aliases = {};
  GgufConventions gguf = {};
};

// Nothing when no architecture has this model_type.
const Architecture* find_architecture(std::string_view model_type);

// The architecture as which a GGUF file is read that has this general.architecture, with experts or without. Where two are
// left, a sliding window decides (llama and mistral).
const Architecture* find_gguf_architecture(std::string_view name, bool experts, bool window);

std::vector<std::string_view> architecture_names();  // sorted

}  // namespace plumb
