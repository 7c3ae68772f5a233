// Recompute: the value of any stage from the inputs that were captured for it, so that an error in one stage does not reach the
// next. Where an input was not captured, it is recomputed from what was captured before it, back to the ids if need be.
// A patch changes some stages' conventions or weights: the same question under another hypothesis.
#pragma once
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "core/result.h"
#include "graph/executor.h"
#include "parity/captured.h"
#include "reference/stage.h"

namespace plumb {

struct Patch {
  std::map<int, Stage>
      stages;  // by index into Graph::stages; inputs, params and states as in the original
  std::map<int, WeightPtr> weights;  // by index into Graph::params

  bool empty() const { return stages.empty() && weights.empty(); }
};

// `bound` with the patch applied.
BoundGraph patched(const BoundGraph& bound, const Patch& patch);

class Recompute {
 public:
  // All arguments must outlive it. `captured` values are taken where they fit the stage's shape.
  Recompute(const BoundGraph& network, const Captured& captured, Numerics numerics,
            ThreadPool& pool, const Patch& patch);

  // The captured value of an output, or nothing.
  std::shared_ptr<const CapturedValue> captured(std::size_t step, Value value);

  // An output recomputed from its stage's inputs, whether it was captured or not.
  const Tensor& computed(std::size_t step, Value value);

  // What the stages below `value` are, down to captured ones: the stages that computed() ran or would run, in order.
  std::vector<int> span_of(std::size_t step, Value value);

 private:
  const Tensor& operand(std::size_t step, Value value);
  const std::vector<Tensor>& outputs(std::size_t step, int stage);
  std::vector<Tensor> source(std::size_t step, int stage) const;

  const BoundGraph& network_;
  const Captured& captured_;
  Numerics numerics_;
  ThreadPool& pool_;
  const Patch& patch_;
  using Key = std::pair<std::size_t, int>;  // step, stage
  std::map<Key, std::vector<Tensor>> computed_;
  std::map<Key, std::vector<StateValue>> states_after_;
  std::map<std::pair<Key, int>, std::shared_ptr<const CapturedValue>> held_;
};

}  // namespace plumb
