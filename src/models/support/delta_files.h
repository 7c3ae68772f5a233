// The forms in which hybrid checkpoints are published, as data.
#pragma once
#include "io/config.h"
#include "io/gguf/conventions.h"
#include "io/weight_map.h"

namespace plumb {

// Names under the wrapper of a vision-language model (transformers' Qwen3_5ForConditionalGeneration,
// mlx-lm's Model), the vision tower and the heads that predict further tokens, and mlx-lm's
// conversion: the convolution is transposed and norms hold 1 + w.
FileConventions hybrid_files();

// The same, with the experts' matrices in one tensor (Qwen3_5MoeExperts) or in three (mlx-lm).
FileConventions hybrid_expert_files();

// llama.cpp's form of them (conversion/qwen.py): norms hold 1 + w but for the delta-net's own, the decay's rate is stored as
// -exp(A_log), and where several value heads share a key head they are tiled. Qwen3.5 projects each input alone.
GgufConventions hybrid_gguf(std::string_view architecture);

// The names of the tensors that no size changes, and with the shared expert's.
std::vector<GgufName> hybrid_gguf_names();
std::vector<GgufName> hybrid_expert_gguf_names();

// Keys that say the sizes of the delta-net.
std::vector<GgufKey> delta_gguf_keys();

// Sentences on what llama.cpp does not load of them.
std::vector<std::string> delta_caveats(const Config& config);

}  // namespace plumb
