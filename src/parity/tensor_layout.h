// A captured tensor whose engine has names and axis orders of its own: what its name says, and how it becomes a stage's value.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "parity/trace.h"

namespace plumb {

// How a captured tensor becomes a stage's value: the axes in the order `axes` (tokens first, unit axes dropped), of each token the
// channels [first, first + count).
struct Layout {
  std::vector<std::size_t> axes;
  std::int64_t first = 0;
  std::int64_t count = 0;
};

// The first whole number in a name, which is its layer; -1 when there is none.
int layer_of(const std::string& name);
// What an engine calls alike in all layers: a name without its layer.
std::string pattern_of(const std::string& name);
// "0/x" is x.
std::string without_step(const std::string& name);

// Orders of the axes that are longer than one, the token axis first.
std::vector<std::vector<std::size_t>> axis_orders(const Shape& shape, std::int64_t tokens);

// [tokens, token_shape...]
Tensor arranged(const StoredTensor& stored, const Layout& layout, const Shape& token_shape);

// A score that the mask has put out of the softmax.
bool masked(double value);

// Of two tensors of one shape, without what both mask.
double correlation(const Tensor& a, const Tensor& b);

// Whether an output's rows can have this many values.
bool may_be_wide(const Output& output, std::int64_t width);

}  // namespace plumb
