// Attention from its probabilities on: for hypotheses that change these.
#pragma once
#include "reference/stage.h"

namespace plumb {

// Output 2 (context) of an Attend stage that has run, anew from output 1 (probabilities) in the rows [token, head] of which `changed` says so.
// The cache holds the pass's own values.
void weigh_again(const Stage& stage, const StageOperands& operands, std::vector<Tensor>& outputs, const std::vector<bool>& changed);

// Outputs 1 and 2 (probabilities, context) of such a stage anew from output 0 (scores), which were `before` when it ran. What joins the
// softmax besides the keys, a sink, does so as before.
void take_softmax_again(const Stage& stage, const StageOperands& operands, std::vector<Tensor>& outputs, const Tensor& before);

}  // namespace plumb
