// GPTQ and AWQ: integers packed into words of [in, out], with a scale and a zero point for each group of inputs:
// w[out][in] = scales[group][out] * (code - zero[group][out]). References: GPTQModel, nn_modules/qlinear/torch.py and
// utils/model.py, convert_gptq_v1_to_v2_format_module; AutoAWQ, modules/linear/gemm.py.
#pragma once
#include "io/forms/form.h"

namespace plumb {

// X.qweight I32: of GPTQ [in * bits / 32, out], fields along in, least significant first; of AWQ [in, out / 8], the nibbles of
// a word being its columns 0, 2, 4, 6, 1, 3, 5, 7. X.qzeros I32 [groups, out * bits / 32], in the same order along out;
// X.scales [groups, out]; of GPTQ X.g_idx I32 [in], the group of each input. The shapes tell the two apart; `settings` gives
// the group size, and whether GPTQ stored zero points less 1.
std::optional<Formed> packed_columns_form(const StoredTensor& codes, const FormFiles& files);

}  // namespace plumb
