// The keys of a GGUF file from a Config and a tokenizer, and the tables of rotary factors that GGUF keeps as tensors.
#pragma once
#include <string>
#include <vector>

#include "core/result.h"
#include "io/config.h"
#include "io/gguf/convert.h"
#include "io/gguf/writer.h"

namespace plumb {

Status write_metadata(const GgufConversion& conversion, GgufWriter& writer);

struct RopeTable {
  std::string name;  // "rope_freqs.weight"
  std::vector<float> values;
};

// Llama 3's scaling as divisors of the frequencies; longrope's two lists.
std::vector<RopeTable> rope_tables(const Config& config);

}  // namespace plumb
