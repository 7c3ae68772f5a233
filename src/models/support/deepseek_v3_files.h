// DeepSeek-V3's form in GGUF files, and what that and the network both need.
#pragma once
#include "io/config.h"
#include "io/gguf/conventions.h"

namespace plumb {

// Of the latents' norms; the configuration's rms_norm_eps is for the layers' own.
constexpr double kDeepseekV3LatentEps = 1e-6;

GgufConventions deepseek_v3_gguf();

}  // namespace plumb
