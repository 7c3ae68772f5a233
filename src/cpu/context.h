// What a stage's code is handed: operands, weights in the form in which it reads them, and the pass that it belongs to.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <vector>

#include "core/thread_pool.h"
#include "cpu/activations.h"
#include "cpu/kernels/kernels.h"
#include "cpu/matrix.h"
#include "cpu/memory.h"
#include "cpu/state.h"
#include "graph/executor.h"

namespace plumb::cpu {

// Consecutive rows of a pass that belong to one sequence.
struct Segment {
  std::vector<StateValue>* states;
  std::int64_t first;         // row
  std::int64_t rows;
  std::int64_t position;      // of the first row
  std::int64_t known_length;  // tokens known when the forward pass started (dynamic rotary scaling)
};

// One stage's parameters, in the order of Stage::params; of each, one of the three is there.
struct StageWeights {
  std::vector<const Weight*> stored;        // for look-ups of rows
  std::vector<std::vector<float>> vectors;  // whole small parameters
  std::vector<Matrix*> matrices;
};

struct RotaryTable {
  std::vector<float> cos;  // [rows, dims / 2]
  std::vector<float> sin;
};

struct Context {
  const Kernels* kernels;
  ThreadPool* pool;
  BufferPool* buffers;
  std::span<const Segment> segments;
  Activations activations;
  // Tables of this pass, by the operation that asked first; layers whose rotation is the same share one.
  std::map<std::pair<const Rope*, const Array*>, RotaryTable>* tables;
  const std::vector<std::pair<const Rope*, const Rope*>>* same_rope;  // an operation and the first that is like it
  std::atomic<std::int64_t>* rows_read = nullptr;  // of tables in files, ever; for those who embed
  const StageObserver* observer = nullptr;
  double* packing_seconds = nullptr;  // that this pass may still spend on packing panels for good; null: as many as it takes
};

struct Operands {
  const Stage* stage;
  std::vector<const Array*> inputs;
  const StageWeights* weights;
  bool rounded_attention = false;  // attention's products are from integers

  template <class T>
  T& state(const Segment& segment, std::size_t which = 0) const {
    return std::get<T>((*segment.states)[static_cast<std::size_t>(stage->states[which])]);
  }
};

// Whether someone wants to see an output that is not computed otherwise. Of a batch of several sequences such outputs are not
// materialised: their rows have other lengths.
bool wanted(const Operands& operands, std::size_t output, const Context& context);

using Outputs = std::vector<Array>;

inline Outputs one(Array y) {
  Outputs outputs;
  outputs.push_back(std::move(y));
  return outputs;
}

// An array with x's rows and another shape of each.
Array array_like(const Array& x, const Shape& row_shape, const Context& context);

// Rows of each segment in `x`: its counts, or the segment's tokens.
std::int64_t rows_of(const Array& x, const Context& context, std::size_t segment);

// work(begin, end) over rows; on the calling thread alone where `cost` operations for each do not repay waking others.
void for_rows(const Context& context, std::int64_t rows, std::int64_t cost,
              const std::function<void(std::int64_t, std::int64_t)>& work);

}  // namespace plumb::cpu
