// Where an error sits, for a cause that nobody knows.
#pragma once
#include <string>

#include "graph/tensor.h"

namespace plumb {

// In words: which channels and heads, from which token on, and whether rows, channels or the whole are off by a factor, or values stand in another
// order. `y` is the suspect's, `f` ours, of one shape.
std::string structure_of(const Tensor& y, const Tensor& f);

}  // namespace plumb
