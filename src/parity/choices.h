// What a router or an index chose is a set: engines list it in orders of their own (partial sorts), and among equal scores they choose
// as they like.
#pragma once
#include <vector>

#include "graph/graph.h"
#include "graph/tensor.h"

namespace plumb {

// Of a router's outputs, and of an index's, what was chosen.
inline constexpr int kChoice = 1;

// The output of `stage` that holds what was chosen; -1 where the stage chooses nothing.
int choice_of(const Stage& stage);

// Brings `outputs`, which `stage` yields, into the order of `theirs`, another engine's choice [tokens, k]: entries that both chose move to
// the place that they have there, with what belongs to them. Of an index, entries that are chosen for others of the same score become
// theirs. Does nothing where the shapes differ.
void take_order_of(const Stage& stage, const Tensor& theirs, std::vector<Tensor>& outputs);

}  // namespace plumb
