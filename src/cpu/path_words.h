// What ran, in words: for `plumb show` and the line of statistics.
#pragma once
#include <string>
#include <vector>

#include "cpu/multiply.h"
#include "cpu/plan.h"

namespace plumb::cpu {

// What activations are where they meet one matrix: "int8 activations".
std::string activation_words(ActivationForm form);

// What a network's products are from, those with most weights first, and its attention's: "products: int8, float32; attention: int16".
// `rounded_attention` is by stage.
std::string computed_words(const Graph& graph, const Plan& plan, const std::vector<bool>& rounded_attention, Activations activations,
                           const Kernels& kernels);

}  // namespace plumb::cpu
