// The reference kernels, one overload for each operation of graph/conventions.h. Plain loops in the
// order of the formulas; accumulation in double and in a fixed order, so that no result depends on
// how tokens were split into chunks or threads.
#pragma once
#include <functional>
#include <optional>
#include <span>

#include "reference/stage.h"

namespace plumb::reference {

using Outputs = std::vector<Tensor>;

Outputs run(const Tokens& op, const StageOperands& operands, const StageContext& context);
Outputs run(const Positions& op, const StageOperands& operands, const StageContext& context);
Outputs run(const Embed& op, const StageOperands& operands, const StageContext& context);
Outputs run(const Norm& op, const StageOperands& operands, const StageContext& context);
Outputs run(const Linear& op, const StageOperands& operands, const StageContext& context);
Outputs run(const JoinHeads& op, const StageOperands& operands, const StageContext& context);
Outputs run(const Rope& op, const StageOperands& operands, const StageContext& context);
Outputs run(const Attend& op, const StageOperands& operands, const StageContext& context);
Outputs run(const Gated& op, const StageOperands& operands, const StageContext& context);
Outputs run(const Activate& op, const StageOperands& operands, const StageContext& context);
Outputs run(const Slice& op, const StageOperands& operands, const StageContext& context);
Outputs run(const Concat& op, const StageOperands& operands, const StageContext& context);
Outputs run(const Convolution& op, const StageOperands& operands, const StageContext& context);
Outputs run(const L2Norm& op, const StageOperands& operands, const StageContext& context);
Outputs run(const LogDecay& op, const StageOperands& operands, const StageContext& context);
Outputs run(const DeltaRule& op, const StageOperands& operands, const StageContext& context);
Outputs run(const GatedNorm& op, const StageOperands& operands, const StageContext& context);
Outputs run(const Add& op, const StageOperands& operands, const StageContext& context);
Outputs run(const Clamp& op, const StageOperands& operands, const StageContext& context);
Outputs run(const Router& op, const StageOperands& operands, const StageContext& context);
Outputs run(const Experts& op, const StageOperands& operands, const StageContext& context);
Outputs run(const AttendShared& op, const StageOperands& operands, const StageContext& context);
Outputs run(const Compress& op, const StageOperands& operands, const StageContext& context);
Outputs run(const Collect& op, const StageOperands& operands, const StageContext& context);
Outputs run(const Index& op, const StageOperands& operands, const StageContext& context);
Outputs run(const Repeat& op, const StageOperands& operands, const StageContext& context);
Outputs run(const HyperConnection& op, const StageOperands& operands, const StageContext& context);
Outputs run(const Collapse& op, const StageOperands& operands, const StageContext& context);
Outputs run(const Mix& op, const StageOperands& operands, const StageContext& context);
Outputs run(const GroupedLinear& op, const StageOperands& operands, const StageContext& context);
Outputs run(const Narrow& op, const StageOperands& operands, const StageContext& context);
Outputs run(const Hadamard& op, const StageOperands& operands, const StageContext& context);
Outputs run(const Logits& op, const StageOperands& operands, const StageContext& context);

// sum_i a[i] b[i] in sixteen interleaved partial sums, added in a fixed order: the same bits on
// every instruction set.
double dot(const double* a, const double* b, std::int64_t n);

// A whole parameter, rounded as the profile rounds parameters.
std::vector<double> read_vector(const Weight& weight, const Numerics& numerics);

// y[t] = W x[t] (+ bias), rounded once to `result`. x [tokens, in]; W [out, in] (or [in, out]);
// y [tokens, out]. Where x has several times the columns of W, W's rows fall into as many groups,
// each of which reads its own part of x.
void multiply(const Tensor& x, const Weight& weight, const Weight* bias, WeightOrder order,
              const StageContext& context, Tensor& y, WeightPrecision result);

// softmax of visible scores in place, each rounded to the activation dtype; `sink` joins the
// denominator, `difference` is the dtype of a score less the largest.
void softmax(std::span<double> scores, std::optional<double> sink, WeightPrecision difference,
             const Numerics& numerics);

// A score of attention from the product of a query and a key: rounded, scaled, rounded.
double scaled_score(double product, double scale, const Numerics& numerics);

// The ids of the `k` largest values, largest first; of equals the lowest id first.
std::vector<std::size_t> largest(std::span<const double> values, std::size_t k);

// How many of `count` blocks a query at `position` may see: the first ones.
std::int64_t visible_blocks(const Blocks& blocks, double position, std::int64_t count);

// The value as it is held in `precision`.
double held_as(ScalePrecision precision, double value, const Numerics& numerics);

// log(1 + e^x), without overflow.
double softplus(double x);

// f(x), unrounded; `slope` is Gated::sigmoid_slope.
double activation_of(Activation activation, double slope, double x);

// f(x) as a module of its own computes it: rounded once, or at each step by engines that take several.
double rounded_activation(Activation activation, double slope, double x, const Numerics& numerics);

// One group of channels that is normalised together; `weight` is empty for a norm without one.
void normalise(const Norm& op, std::span<const double> x, std::span<const double> weight,
               const Numerics& numerics, std::span<double> y);

// activation(gate) * up of one element, rounded as transformers rounds.
double gate(const Gated& op, double gate, double up, const StageContext& context);

// Runs work(begin, end) over rows, on the calling thread alone where the work is too small to
// share.
void for_rows(const StageContext& context, std::int64_t rows, std::int64_t cost_per_row,
              const std::function<void(std::int64_t, std::int64_t)>& work);

// A tensor of x's tokens with the given shape of a token.
Tensor tensor_like(const Tensor& x, const Shape& token_shape);

}  // namespace plumb::reference
