// A captured tensor whose engine has names and axis orders of its own: what its name says, and how it becomes a stage's value.
#pragma once
#include <cstdint>
#include <set>
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

// The number of a name's layer: its first whole number, else that behind a word for layers (L3); -1 when there is none.
int layer_of(const std::string& name);
// What an engine calls alike in all layers: a name without its layer.
std::string pattern_of(const std::string& name);

// Which layer an engine's number means. What is numbered up to the count of layers is counted from one: blocks 1 to n, or hidden states
// 0 to n, of which the first enters the first layer and the last may be the final norm's (transformers).
class Numbering {
 public:
  Numbering() = default;
  Numbering(const std::vector<std::string>& names, int layers);

  int layer(const std::string& name) const;  // -1: outside of layers
  // Whether the last layer's number may be of what follows the layers.
  bool may_be_outside(const std::string& name) const;

 private:
  int layers_ = 0;
  std::set<std::string> from_one_;  // patterns
};
// "0/x" is x.
std::string without_step(const std::string& name);

// Orders of the axes that are longer than one, the token axis first.
std::vector<std::vector<std::size_t>> axis_orders(const Shape& shape, std::int64_t tokens);

// [tokens, token_shape...]
Tensor arranged(const StoredTensor& stored, const Layout& layout, const Shape& token_shape);

// The layouts under which a tensor can be a stage's value: those whose axes behind the tokens are the stage's, else, where its axes are
// others (heads side by side in one), all that have its width. More than one where axes are equally long: keys and tokens, heads and channels.
std::vector<Layout> layouts_of(const StoredTensor& tensor, std::int64_t tokens, const Output& output);

// That of them under which the tensor is most like `ours` [tokens, ...].
Layout likest_layout(const StoredTensor& tensor, const std::vector<Layout>& layouts, const Tensor& ours);

// A score that the mask has put out of the softmax.
bool masked(double value);

// Of two tensors of one shape, without what both mask.
double correlation(const Tensor& a, const Tensor& b);

// Whether an output's rows can have this many values.
bool may_be_wide(const Output& output, std::int64_t width);

}  // namespace plumb
