// Matrices that MLX quantised: packed words, a scale for each group of a row, and in affine mode an offset. Reference: mlx,
// mlx.core.quantize and dequantize (0.32.4); mlx-lm, utils.py, load_model, for the configuration.
#pragma once
#include "io/forms/form.h"

namespace plumb {

// X.weight U32 [..., words]: the fields of a row one after the other, least significant bits first; X.scales [..., groups];
// X.biases likewise in affine mode; X.global_scale F32 [experts] where nvfp4 has one. `settings` is {"group_size", "bits",
// "mode"} and overrides by module path; words and groups alone leave affine's bits open.
std::optional<Formed> mlx_form(const StoredTensor& codes, const FormFiles& files);

}  // namespace plumb
