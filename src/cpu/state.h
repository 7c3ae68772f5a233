// What a sequence remembers, as the kernels read it; one for each State of the graph.
#pragma once
#include <cstdint>
#include <variant>
#include <vector>

#include "cpu/kernels/kernels.h"
#include "cpu/memory.h"
#include "graph/graph.h"

namespace plumb::cpu {

// Keys and values in blocks of kKeyBlock positions, from position 0.
class KeyValueBlocks {
 public:
  explicit KeyValueBlocks(const KeyValueState& kind) : kind_(kind) {}

  // The keys and values of the next token: [heads, key_dim], [heads, value_dim].
  void append(const float* keys, const float* values);
  // Blocks all of whose positions are below `position` are never read again.
  void forget_before(std::int64_t position);
  std::int64_t length() const { return length_; }
  std::int64_t blocks() const { return static_cast<std::int64_t>(blocks_.size()); }
  const float* keys(std::int64_t block, std::int64_t head) const;    // [key_dim][kKeyBlock]
  const float* values(std::int64_t block, std::int64_t head) const;  // [kKeyBlock][value_dim]

 private:
  KeyValueState kind_;
  std::vector<Pages> blocks_;
  std::int64_t length_ = 0;
  std::int64_t forgotten_ = 0;  // blocks
};

// The last taps - 1 tokens, oldest first; zeros before the first.
struct ConvolutionRows {
  std::vector<float> rows;  // [taps - 1, channels]
};

struct RecurrentMatrices {
  std::vector<float> matrices;  // [heads, key_dim, value_dim]
};

// The last tokens' rows, oldest first; the newest is at position end - 1.
struct WindowRows {
  std::int64_t width;
  std::int64_t window;
  std::vector<float> rows;
  std::int64_t end = 0;

  std::int64_t held() const { return static_cast<std::int64_t>(rows.size()) / width; }
};

struct RemainderRows {
  std::int64_t width;
  std::vector<float> previous_values;
  std::vector<float> previous_scores;
  std::vector<float> values;
  std::vector<float> scores;
};

struct ListRows {
  std::int64_t width;
  std::vector<float> rows;
};

using StateValue = std::variant<KeyValueBlocks, ConvolutionRows, RecurrentMatrices, WindowRows,
                                RemainderRows, ListRows>;

StateValue empty_state(const State& state);

}  // namespace plumb::cpu
