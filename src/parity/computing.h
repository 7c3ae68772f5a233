// How a hypothesis is written that no field says and no other weight makes: the stage computes something else from the same operands.
#pragma once
#include <functional>
#include <span>
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

// At the stages that it concerns.
Hypothesis computing(CauseName name, std::function<bool(const Stage&)> concerns, Computation computation);

// At the stages of one operation.
template <class Operation>
Hypothesis computing(CauseName name, Computation computation) {
  return computing(
      std::move(name), [](const Stage& stage) { return std::holds_alternative<Operation>(stage.operation); }, std::move(computation));
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

// Adds it where it changes something at this stage.
void add_where_it_applies(const BoundGraph& network, int index, std::vector<Hypothesis>& list, Hypothesis hypothesis);

// Whether two lists of parameters have the same shapes, one by one: only then may one stand for the other.
bool same_shapes(const BoundGraph& network, const std::vector<int>& a, const std::vector<int>& b);

// The stage with other values in place of one operand.
Outputs run_with_input(const Stage& stage, const StageOperands& operands, const StageContext& context, std::size_t input,
                       const Tensor& values);

// The stage with each token's row of one operand changed.
Computation with_rows(std::size_t input, std::function<void(std::span<double>)> change);

// One token's row, [1, ...] of [tokens, ...]; and such a row behind others.
Tensor row_alone(const Tensor& values, std::int64_t token);
void append_row(Tensor& values, const Tensor& row);

// sqrt(mean(x^2) + eps)
double root_mean_square(std::span<const double> values, double eps);

// An operand that the computation holds, without owning it.
inline WeightPtr borrowed(const Weight* weight) {
  return {weight, [](const Weight*) {}};
}

inline const Range kAnyFactor{1e-3, 1e3, true, false, {0.5, 2}};

}  // namespace plumb
