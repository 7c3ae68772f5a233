// What a sequence remembers, as the kernels read it; one for each State of the graph.
#pragma once
#include <cstdint>
#include <memory>
#include <variant>
#include <vector>

#include "cpu/block_store.h"
#include "cpu/kernels/kernels.h"
#include "graph/executor.h"
#include "graph/graph.h"

namespace plumb::cpu {

// Keys and values in blocks of kKeyBlock positions, from position 0.
class KeyValueBlocks {
 public:
  KeyValueBlocks(const KeyValueState& kind, CacheType type, const BlockStore& store) : kind_(kind), type_(type), store_(store) {}
  // Full blocks are shared: nobody writes them again.
  KeyValueBlocks(const KeyValueBlocks& other);
  KeyValueBlocks(KeyValueBlocks&& other) noexcept = default;
  KeyValueBlocks& operator=(const KeyValueBlocks& other) = delete;
  KeyValueBlocks& operator=(KeyValueBlocks&& other) noexcept = default;
  ~KeyValueBlocks() = default;

  // Makes room for `count` tokens more; each head's keys and values are then kept by keep().
  void grow(std::int64_t count);
  // One head's keys [key_dim] and values [value_dim] at a position below length(). Heads may be kept by several threads.
  void keep(const Kernels& kernels, std::int64_t position, std::int64_t head, const float* keys, const float* values);
  // Asks memory for what keep() writes of a head at a position, and attention then reads beside it.
  void ask_for(std::int64_t position, std::int64_t head) const;
  // Blocks all of whose positions are below `position` are never read again.
  void forget_before(std::int64_t position);
  CacheType type() const { return type_; }
  std::int64_t length() const { return length_; }
  std::int64_t blocks() const { return static_cast<std::int64_t>(blocks_.size()); }
  // Of one head, as KeepArguments lays them; null where forgotten.
  std::uint8_t* keys(std::int64_t block, std::int64_t head) const;
  std::uint8_t* values(std::int64_t block, std::int64_t head) const;

 private:
  std::size_t block_bytes() const;  // of all heads

  KeyValueState kind_;
  CacheType type_;
  BlockStore store_;
  std::vector<std::shared_ptr<std::uint8_t>> blocks_;  // null where forgotten
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

// `type` is that of keys and values, whose blocks are of `store`.
StateValue empty_state(const State& state, CacheType type, const BlockStore& store);

// What it keeps of a sequence; a last block that is not full is counted by its tokens.
StateBytes bytes_of(const State& state, CacheType type);

}  // namespace plumb::cpu
