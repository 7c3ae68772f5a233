// The forms in which experts are published, as data.
#pragma once
#include <vector>

#include "io/gguf/conventions.h"
#include "io/weight_map.h"

namespace plumb {

// A matrix of each expert ("…{e}…") that is slice {e} of a stack [experts, out, in].
NameRule stacked_expert(std::string_view name, std::string_view stored);

// mlx-lm stacks the gate, up and down matrices of "mlp.experts" under "mlp.switch_mlp" (models/qwen3_moe.py, sanitize).
std::vector<NameRule> switch_mlp_rules();

// llama.cpp's names of the experts that serve every token, "mlp.shared_experts".
std::vector<GgufName> shared_experts_gguf_names();

}  // namespace plumb
