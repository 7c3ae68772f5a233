// Dispatch of one stage to its kernel, and what a state is before the first token.
#include "reference/stage.h"

#include "core/check.h"
#include "reference/kernels.h"

namespace plumb {

namespace reference {

// The sources are filled by whoever runs the graph; they are operands of other stages, never
// computed.
Outputs run(const Tokens&, const StageOperands& operands, const StageContext&) {
  return {*operands.inputs[0]};
}

Outputs run(const Positions&, const StageOperands& operands, const StageContext&) {
  return {*operands.inputs[0]};
}

}  // namespace reference

StateValue empty_state(const State& state) {
  struct Empty {
    StateValue operator()(const KeyValueState& kind) const {
      KeyValueCache cache;
      cache.keys = Tensor({0, kind.heads, kind.key_dim});
      cache.values = Tensor({0, kind.heads, kind.value_dim});
      return cache;
    }
    StateValue operator()(const ConvolutionState& kind) const {
      return ConvolutionWindow{Tensor({kind.taps - 1, kind.channels})};
    }
    StateValue operator()(const RecurrentState& kind) const {
      return RecurrentMemory{Tensor({kind.heads, kind.key_dim, kind.value_dim})};
    }
    StateValue operator()(const WindowState& kind) const {
      return TokenWindow{Tensor({0, kind.width}), {}, kind.window};
    }
    StateValue operator()(const RemainderState& kind) const {
      const Tensor none({0, kind.width});
      return Remainder{none, none, none, none};
    }
    StateValue operator()(const ListState& kind) const { return RowList{Tensor({0, kind.width})}; }
  };
  return std::visit(Empty(), state.kind);
}

std::vector<Tensor> run_stage(const Stage& stage, const StageOperands& operands,
                              const StageContext& context) {
  return std::visit(
      [&](const auto& operation) { return reference::run(operation, operands, context); },
      stage.operation);
}

}  // namespace plumb
