// How a hypothesis is written that no field says and no other weight makes: the stage computes something else from the same operands.
#pragma once
#include <functional>
#include <utility>
#include <variant>
#include <vector>

#include "parity/hypothesis.h"

namespace plumb {

using Outputs = std::vector<Tensor>;

// What a cause is called, and what stands where.
struct CauseName {
  std::string row;
  std::string field;
  std::string cause;
  FieldValue expected;
  FieldValue found;
};

template <class Operation>
Hypothesis computing(CauseName name, Computation computation) {
  return {.row = std::move(name.row),
          .field = std::move(name.field),
          .cause = std::move(name.cause),
          .expected = std::move(name.expected),
          .found = std::move(name.found),
          .range = std::nullopt,
          .apply =
              [computation = std::move(computation)](const BoundGraph& network, int index, double, Patch& patch) {
                if (!std::holds_alternative<Operation>(stage_at(network, index).operation)) return false;
                patch.computations[index] = computation;
                return true;
              },
          .rarity = 1};
}

// The same with a number that is looked for.
template <class Operation>
Hypothesis scaling(CauseName name, Range range,
                   std::function<Outputs(const Stage&, const StageOperands&, const StageContext&, double)> computation) {
  Hypothesis hypothesis = computing<Operation>(std::move(name), {});
  hypothesis.range = std::move(range);
  hypothesis.rarity = 2;
  hypothesis.apply = [computation = std::move(computation)](const BoundGraph& network, int index, double value, Patch& patch) {
    if (!std::holds_alternative<Operation>(stage_at(network, index).operation)) return false;
    patch.computations[index] = [computation, value](const Stage& stage, const StageOperands& operands, const StageContext& context) {
      return computation(stage, operands, context, value);
    };
    return true;
  };
  return hypothesis;
}

// An operand that the computation holds, without owning it.
inline WeightPtr borrowed(const Weight* weight) {
  return {weight, [](const Weight*) {}};
}

inline const Range kAnyFactor{1e-3, 1e3, true, false, {0.5, 2}};

}  // namespace plumb
