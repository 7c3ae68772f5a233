// Which keys of config.json are names for others, and which leave the computation alone.
#pragma once
#include <string_view>

namespace plumb {

// The key under which Config keeps `key`: "num_local_experts" is "num_experts", "torch_dtype" is "dtype".
std::string_view canonical_key(std::string_view key);

// True for keys about training, saving, generation defaults and other modalities.
bool is_harmless_key(std::string_view key);

}  // namespace plumb
