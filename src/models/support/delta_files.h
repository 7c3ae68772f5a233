// The forms in which hybrid checkpoints are published, as data.
#pragma once
#include "io/weight_map.h"

namespace plumb {

// Names under the wrapper of a vision-language model (transformers' Qwen3_5ForConditionalGeneration,
// mlx-lm's Model), the vision tower and the heads that predict further tokens, and mlx-lm's
// conversion: the convolution is transposed and norms hold 1 + w.
FileConventions hybrid_files();

// The same, with the experts' matrices in one tensor (Qwen3_5MoeExperts) or in three (mlx-lm).
FileConventions hybrid_expert_files();

}  // namespace plumb
