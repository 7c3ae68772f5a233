// One stage of a graph, computed from given operands: what the executor does for each stage in
// turn, and what the diagnosis does with a captured input and one field of the convention changed.
#pragma once
#include <cstdint>
#include <span>
#include <variant>
#include <vector>

#include "core/thread_pool.h"
#include "graph/graph.h"
#include "graph/tensor.h"
#include "io/weight.h"
#include "reference/numerics.h"

namespace plumb {

// Keys and values of the tokens seen, in the order in which they came; rows of `keys` are [heads,
// key_dim].
struct KeyValueCache {
  Tensor keys;
  Tensor values;
  std::vector<std::int64_t> positions;  // of each row
};

// What came in the last taps - 1 tokens, oldest first; zeros before the first.
struct ConvolutionWindow {
  Tensor rows;  // [taps - 1, channels]
};

struct RecurrentMemory {
  Tensor matrices;  // [heads, key_dim, value_dim]; zeros before the first token
};

struct TokenWindow {
  Tensor rows;                          // [held, width], oldest first
  std::vector<std::int64_t> positions;  // of each row
  std::int64_t window;
};

// Values and scores of tokens, oldest first; scores include the position's bias.
struct Remainder {
  Tensor previous_values;  // [ratio or 0, width]
  Tensor previous_scores;
  Tensor values;
  Tensor scores;
};

struct RowList {
  Tensor rows;  // [held, width]
};

using StateValue = std::variant<KeyValueCache, ConvolutionWindow, RecurrentMemory, TokenWindow,
                                Remainder, RowList>;

StateValue empty_state(const State& state);

struct StageContext {
  Numerics numerics;
  ThreadPool* pool;
  std::int64_t known_length;  // tokens of the sequence that are known when the forward pass starts
                              // (dynamic rotary scaling)
  bool all_outputs;  // false: outputs that only observers read (scores, probabilities of attention)
                     // stay empty
  bool float_attention = false;  // where attention may be from integers (cpu-int16), it is not (int16.h)
  double (*gate_function)(double x) = nullptr;  // of a gate and of experts, one that no Activation names: in place of the convention's
};

// The operands of one stage, in the order of Stage::inputs, ::params and ::states. States are read
// and advanced.
struct StageOperands {
  std::vector<const Tensor*> inputs;
  std::vector<const Weight*> weights;
  std::vector<StateValue*> states;
};

// Computes the stage's outputs, in the order of Stage::outputs. Shapes are those that the graph was
// built with.
std::vector<Tensor> run_stage(const Stage& stage, const StageOperands& operands,
                              const StageContext& context);

}  // namespace plumb
