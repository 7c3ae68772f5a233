// Recompute: the value of any stage from the inputs that were captured for it, so that an error in one stage does not reach the
// next. Where an input was not captured, it is recomputed from what was captured before it, back to the ids if need be.
// A patch changes some stages' conventions or weights: the same question under another hypothesis.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "core/result.h"
#include "graph/executor.h"
#include "parity/captured.h"
#include "reference/stage.h"

namespace plumb {

// What a stage computes where no convention says it: the same operands, other arithmetic.
using Computation = std::function<std::vector<Tensor>(
    const Stage& stage, const StageOperands& operands, const StageContext& context)>;

struct Patch {
  std::map<int, Stage> stages;       // by index into Graph::stages; states as in the original
  std::map<int, WeightPtr> weights;  // by index into Graph::params
  std::map<int, Computation> computations;  // by index into Graph::stages; in place of run_stage

  bool empty() const { return stages.empty() && weights.empty() && computations.empty(); }
};

// Whether stages read each other in a circle under the patch: two causes that are each right by themselves may do so together. Nothing
// can be computed then.
bool reads_in_a_circle(const BoundGraph& network, const Patch& patch);

// The stages that compute something else under the patch.
std::set<int> touched_stages(const BoundGraph& network, const Patch& patch);

class Recompute {
 public:
  // All arguments must outlive it. `captured` values are taken where they fit the stage's shape.
  Recompute(const BoundGraph& network, const Captured& captured, Numerics numerics,
            ThreadPool& pool, const Patch& patch);

  // The same under a patch that differs from the base's at the stages `touched`: whatever does not depend on them is taken
  // from `base` where it has been computed. `base` is only read, so several of these may run at once.
  Recompute(const Recompute& base, ThreadPool& pool, const Patch& patch, std::set<int> touched);

  // Runs a stage of several of these where it differs from their base and has not been run; what is the same matrix for all of them
  // multiplies all of their tokens at once. Their outputs are then what computed() would say.
  static void run_together(std::span<Recompute* const> lanes, std::size_t step, int stage);

  // Nothing after this step is asked for: a stage that yields what the base's yields there differs no more.
  void end_with(std::size_t step) { last_ = step; }

  // Of the logits of this step, the last `rows` alone are asked for.
  void keep_last_logits(std::size_t step, std::int64_t rows) { logits_ = {step, rows}; }

  // Forgets this one's own values of a stage that nothing asks for any more; asked all the same, it is run again.
  void forget(std::size_t step, int stage);

  // Another patch from step 1 on; null: the same. It must outlive this.
  void set_later(const Patch* later) { later_ = later; }

  // Whether something is changed in this step.
  bool patched(std::size_t step) const { return !patch(step).empty(); }

  // The captured value of an output, or nothing.
  std::shared_ptr<const CapturedValue> captured(std::size_t step, Value value);

  // An output recomputed from its stage's inputs, whether it was captured or not. Of no tokens where the patch has stages read each other
  // in a circle.
  const Tensor& computed(std::size_t step, Value value);

  // What the stages below `value` are, down to captured ones: the stages that computed() ran or would run, in order.
  std::vector<int> span_of(std::size_t step, Value value);

 private:
  using Key = std::pair<std::size_t, int>;  // step, stage

  const Tensor& operand(std::size_t step, Value value);
  const std::vector<Tensor>& outputs(std::size_t step, int stage);
  std::vector<StateValue> states_before(std::size_t step, int stage);
  StageOperands operands(std::size_t step, int index, std::vector<StateValue>& states);
  bool cuts(std::size_t step, int index) const;
  StageContext context(std::size_t step, int index) const;
  bool due(std::size_t step, int stage);
  // Whether the stage is the network's own and takes each token by itself.
  bool may_join(std::size_t step, int stage);
  const std::vector<Tensor>& keep(Key key, std::vector<Tensor> outputs);
  std::vector<Tensor> source(std::size_t step, int stage) const;
  const Patch& patch(std::size_t step) const {
    return step > 0 && later_ != nullptr ? *later_ : patch_;
  }
  const Stage& stage_in(std::size_t step, int index) const;
  bool differs(std::size_t step, int stage);
  // What this and its bases hold already; null where nothing. These alone are asked of a base.
  const std::shared_ptr<const CapturedValue>* known_value(Key key, int output) const;
  const std::vector<Tensor>* known_outputs(Key key) const;
  std::optional<std::vector<StateValue>> known_states(Key key) const;
  bool knows_states(Key key) const;
  void keep_states(Key key, std::vector<StateValue> states);

  const BoundGraph& network_;
  const Captured& captured_;
  bool circular_ = false;
  Numerics numerics_;
  ThreadPool& pool_;
  const Patch& patch_;
  const Patch* later_ = nullptr;
  std::optional<std::size_t> last_;
  const Recompute* base_ = nullptr;
  struct Rows {
    std::size_t step;
    std::int64_t count;
  };
  std::optional<Rows> logits_;  // nothing: all
  Tensor last_hidden_;          // the last rows of what the logits are made of
  std::set<int> touched_;
  std::map<Key, bool> differs_;
  std::map<Key, std::vector<Tensor>> computed_;
  // What a stage remembers after a step. A stage as the network has it only adds rows to caches and lists: those of all steps lie in one memory,
  // each step's at its beginning. A copy for each step would take the square of a sequence's length.
  struct Remembered {
    std::shared_ptr<std::vector<StateValue>> values;
    std::vector<std::int64_t> rows;  // of each state
  };
  std::map<Key, Remembered> states_after_;
  std::map<std::pair<Key, int>, std::shared_ptr<const CapturedValue>> held_;
};

}  // namespace plumb
