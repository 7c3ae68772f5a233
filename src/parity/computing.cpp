#include "parity/computing.h"

#include <algorithm>
#include <cmath>

namespace plumb {

Hypothesis computing(CauseName name, std::function<bool(const Stage&)> concerns, Computation computation) {
  return {.row = std::move(name.row),
          .field = std::move(name.field),
          .cause = std::move(name.cause),
          .expected = std::move(name.expected),
          .found = std::move(name.found),
          .range = std::nullopt,
          .apply =
              [concerns = std::move(concerns), computation = std::move(computation)](const BoundGraph& network, int index, double,
                                                                                     Patch& patch) {
                if (!concerns(stage_at(network, index))) return false;
                patch.computations[index] = computation;
                return true;
              },
          .rarity = 1};
}

void add_where_it_applies(const BoundGraph& network, int index, std::vector<Hypothesis>& list, Hypothesis hypothesis) {
  Patch probe;
  if (hypothesis.apply(network, index, 0, probe)) list.push_back(std::move(hypothesis));
}

bool same_shapes(const BoundGraph& network, const std::vector<int>& a, const std::vector<int>& b) {
  const auto shape_of = [&](int param) { return network.graph.params[static_cast<std::size_t>(param)].shape; };
  return std::ranges::equal(a, b, {}, shape_of, shape_of);
}

Outputs run_with_input(const Stage& stage, const StageOperands& operands, const StageContext& context, std::size_t input,
                       const Tensor& values) {
  StageOperands other = operands;
  other.inputs[input] = &values;
  return run_stage(stage, other, context);
}

Computation with_rows(std::size_t input, std::function<void(std::span<double>)> change) {
  return [input, change = std::move(change)](const Stage& stage, const StageOperands& operands, const StageContext& context) {
    Tensor values = *operands.inputs[input];
    for (std::int64_t t = 0; t < values.tokens(); ++t)
      change(values.row(t));
    return run_with_input(stage, operands, context, input, values);
  };
}

Tensor row_alone(const Tensor& values, std::int64_t token) {
  Shape shape = values.shape;
  shape[0] = 1;
  Tensor one(shape);
  std::ranges::copy(values.row(token), one.data.begin());
  return one;
}

void append_row(Tensor& values, const Tensor& row) {
  values.data.insert(values.data.end(), row.data.begin(), row.data.end());
  ++values.shape[0];
}

double root_mean_square(std::span<const double> values, double eps) {
  double squares = 0;
  for (const double value : values)
    squares += value * value;
  return std::sqrt(squares / static_cast<double>(values.size()) + eps);
}

}  // namespace plumb
