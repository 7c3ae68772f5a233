// Graph: a network as data. Stages in execution order, each with its convention, its operands, its
// parameters' names and exact shapes, and the shapes of what it yields. Executors interpret it; the
// diagnosis copies a stage and changes one field.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/shape.h"
#include "graph/conventions.h"

namespace plumb {

// A handle to one output of one stage.
struct Value {
  int stage;
  int output;
};

// A parameter by its canonical (Hugging Face) name.
struct Param {
  std::string name;
  Shape shape;
  std::optional<std::int64_t> ids_below;  // a table of ids: whole numbers in [0, ids_below)
};

// What a sequence remembers between forward passes. Every state is an operand of the stage that
// reads and writes it.
struct KeyValueState {
  std::int64_t heads;
  std::int64_t key_dim;
  std::int64_t value_dim;
};

// The last taps - 1 tokens of `channels` channels.
struct ConvolutionState {
  std::int64_t channels;
  std::int64_t taps;
};

// One matrix [key_dim, value_dim] for each head.
struct RecurrentState {
  std::int64_t heads;
  std::int64_t key_dim;
  std::int64_t value_dim;
};

// The last `window` - 1 tokens' rows.
struct WindowState {
  std::int64_t width;
  std::int64_t window;
};

// The tokens of the block that is not complete, and of the one before where blocks overlap.
struct RemainderState {
  std::int64_t width;
  std::int64_t tokens;  // at most
};

// Rows that are kept for good: one for every `ratio` tokens.
struct ListState {
  std::int64_t width;
  std::int64_t ratio;
};

struct State {
  int layer;
  std::variant<KeyValueState, ConvolutionState, RecurrentState, WindowState, RemainderState,
               ListState>
      kind;
};

struct Output {
  std::string name;       // as in traces: "layers.0.attn.q_rope"
  Shape shape;            // of one token; kAnyLength where it grows with the sequence
  bool per_token = true;  // false: one value for the whole sequence, as it is after the last token;
                          // no token axis, and filled only for observers
};

inline constexpr std::int64_t kAnyLength = -1;

struct Stage {
  std::string name;  // the name of its (main) output, or their common prefix
  int layer;         // -1 outside the layers
  Operation operation;
  std::vector<Value> inputs;
  std::vector<int> params;  // indices into Graph::params
  std::vector<int> states;  // indices into Graph::states
  std::vector<Output> outputs;
};

struct Graph {
  std::vector<Stage> stages;
  std::vector<Param> params;
  std::vector<State> states;
  Value logits;

  const Output& output(Value value) const;
  // The stage that yields the output of this name; -1 when there is none.
  int find_stage(std::string_view output_name) const;
  // How many layers there are: one more than the highest that a stage belongs to.
  int layers() const;
};

}  // namespace plumb
