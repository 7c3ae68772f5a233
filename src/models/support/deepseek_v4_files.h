// What surrounds DeepSeek-V4's network: its configuration's defaults and limits, the three ways in
// which its files name tensors, and the official program's passage through narrow formats.
#pragma once
#include <string_view>

#include "graph/builder.h"
#include "io/gguf/conventions.h"
#include "io/weight_map.h"

namespace plumb {

extern const std::string_view kDeepseekV4Defaults;

FileConventions deepseek_v4_files();
GgufConventions deepseek_v4_gguf();  // deepseek_v4_gguf.cpp

enum class Mixer : std::uint8_t { kWindow, kHeavy, kSparse };

struct DeepseekV4Layer {
  Mixer mixer = Mixer::kWindow;
  std::int64_t ratio = 0;  // tokens of a block
  bool hashed = false;     // experts by token id
};

// Layer `i`, by either form of the configuration: layer_types, compress_rates and mlp_layer_types, or
// compress_ratios and num_hash_layers.
DeepseekV4Layer deepseek_v4_layer(const Config& c, std::int64_t i);

RouterScore deepseek_v4_score(const Config& c);

// Complains about configurations that the reference's code does not follow.
void check_deepseek_v4(const Config& c);

// The official program stores the first `channels` channels of cached values in eight bits and the
// index's queries and entries, after a Hadamard rotation, in four; transformers does neither. On
// only where the configuration has "simulate_fp8_cache" or "simulate_fp4_index".
Value narrow_cache(Builder& b, const Config& c, std::string_view stage, Value x,
                   std::int64_t channels);
Value narrow_index(Builder& b, const Config& c, const std::string& stage, Value x,
                   std::int64_t width);

}  // namespace plumb
