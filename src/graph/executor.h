// Executor: something that runs a graph with its weights. The reference executor (src/reference)
// and the fast ones implement it; the engine knows only this.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "graph/graph.h"
#include "graph/tensor.h"
#include "io/weight.h"
#include "io/weight_map.h"

namespace plumb {

// A graph with a weight for each of its parameters.
struct BoundGraph {
  Graph graph;
  std::vector<WeightPtr> weights;  // by index into graph.params
};

// Takes each parameter of `graph` from `map`; an error names what is missing, misshapen or left
// over.
Result<BoundGraph> bind(Graph graph, WeightMap& map);

// What a sequence keeps of one state.
struct StateBytes {
  std::uint64_t per_token;
  std::uint64_t fixed;  // however long the sequence is
};

// Where each of its numbers takes `element` bytes.
StateBytes bytes_of(const State& state, std::size_t element);

// What one sequence remembers. Belongs to the executor that made it; one forward pass at a time.
class Sequence {
 public:
  virtual ~Sequence() = default;
  virtual std::int64_t length() const = 0;  // tokens fed so far
};

// Sees stages' outputs as they are computed.
class StageObserver {
 public:
  virtual ~StageObserver() = default;
  virtual bool wants(std::string_view output_name) const = 0;
  virtual void observe(std::string_view output_name,
                       const Tensor& value) = 0;  // rows of the chunk being computed
};

enum class LogitRows : std::uint8_t { kLast, kAll };

struct ForwardOptions {
  LogitRows rows = LogitRows::kLast;
  std::int64_t chunk = 0;  // tokens computed together; 0: all. Never changes a result
  StageObserver* observer = nullptr;
  std::function<bool(std::int64_t done)> progress;  // called after each chunk; false cancels
};

// What one sequence of a batch is fed.
struct BatchItem {
  Sequence* sequence;  // of this executor; each sequence once in a batch
  std::span<const std::int32_t> ids;
};

class Executor {
 public:
  virtual ~Executor() = default;
  virtual std::unique_ptr<Sequence> start() const = 0;
  // Another sequence of this executor that has been fed the same ids, for prompts that begin alike: what either is fed from now on
  // has the bits that feeding it everything anew would give.
  virtual std::unique_ptr<Sequence> fork(const Sequence& sequence) const = 0;
  // Feeds `ids` at the sequence's end; returns logits [rows, vocab]. An error names an id outside
  // the vocabulary, a non-finite logit, or the cancellation. After an error the sequence is not to
  // be used again.
  virtual Result<Tensor> forward(Sequence& sequence, std::span<const std::int32_t> ids,
                                 const ForwardOptions& options) const = 0;
  // The same for several sequences at once, each with the logits that forward() alone would give it; in
  // the order of `items`. options.chunk counts the tokens of each sequence, options.progress those of all.
  // Without an implementation of its own: one after the other.
  virtual Result<std::vector<Tensor>> forward_batch(std::span<const BatchItem> items,
                                                    const ForwardOptions& options) const;
  // Does now what the first passes would do on their way, such as laying out weights; their results are the same.
  virtual void prepare() const {}
  // How the parameter of this index is stored while it runs, for people; "" where that is as in the file.
  virtual std::string path_of(std::size_t /*param*/) const { return {}; }
  // What a sequence keeps of the graph's state of this index.
  virtual StateBytes bytes_of(std::size_t state) const = 0;
  virtual std::string describe() const = 0;  // the path that runs: "reference, fp32, 2 threads"
};

}  // namespace plumb
