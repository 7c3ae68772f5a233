// The embedding's rows, projections, and the head.
#include <algorithm>
#include <cmath>

#include "core/float_bits.h"
#include "cpu/multiply.h"
#include "cpu/ops/ops.h"

namespace plumb::cpu {
namespace {

Product product_of(const Operands& operands, const Array& x, Array& y, std::int64_t groups) {
  const StageWeights& weights = *operands.weights;
  const bool bias = weights.vectors.size() > 1;
  return {.matrix = weights.matrices[0],
          .x = x.data(),
          .x_stride = x.width(),
          .tokens = x.rows(),
          .bias = bias ? weights.vectors[1].data() : nullptr,
          .y = y.data(),
          .y_stride = y.width(),
          .groups = groups};
}

// The system maps 2 MiB of a file with each row that is read: those of a prompt would add up to the whole table. Giving them back takes
// longer than to read the row.
constexpr std::int64_t kRowsMapped = 4;

}  // namespace

Outputs run(const Embed& op, const Operands& operands, const Context& context) {
  const Array& ids = *operands.inputs[0];
  const Weight& table = *operands.weights->stored[0];
  const double scale = op.scale_precision == ScalePrecision::kBfloat16
                           ? round_to_bfloat16(static_cast<float>(op.scale))
                           : op.scale;
  const auto factor = static_cast<float>(scale);
  Array y = array_like(ids, {table.row_length()}, context);
  for_rows(context, ids.rows(), table.row_length() * 4, [&](std::int64_t begin, std::int64_t end) {
    std::vector<double> row(static_cast<std::size_t>(table.row_length()));
    for (std::int64_t t = begin; t < end; ++t) {
      table.read_row(static_cast<std::int64_t>(ids.row(t)[0]), row);
      std::transform(row.begin(), row.end(), y.row(t),
                     [&](double value) { return static_cast<float>(value) * factor; });
      if (context.rows_read->fetch_add(1) % kRowsMapped == kRowsMapped - 1) table.release();
    }
  });
  return one(std::move(y));
}

std::vector<Array> run_linears(std::span<const Operands> stages, const Context& context) {
  std::vector<Array> outputs;
  std::vector<Product> products;
  for (const Operands& operands : stages)
    outputs.push_back(array_like(*operands.inputs[0],
                                 std::get<Linear>(operands.stage->operation).out, context));
  for (std::size_t i = 0; i < stages.size(); ++i)
    products.push_back(product_of(stages[i], *stages[i].inputs[0], outputs[i], 1));
  multiply(context, products);
  return outputs;
}

Outputs run(const Linear&, const Operands& operands, const Context& context) {
  return run_linears(std::span(&operands, 1), context);
}

Outputs run(const GroupedLinear& op, const Operands& operands, const Context& context) {
  Array y = array_like(*operands.inputs[0], op.out, context);
  const Product product = product_of(operands, *operands.inputs[0], y, op.groups);
  multiply(context, std::span(&product, 1));
  return one(std::move(y));
}

Outputs run(const Logits& op, const Operands& operands, const Context& context) {
  Array y = array_like(*operands.inputs[0], {operands.weights->matrices[0]->rows()}, context);
  const Product product = product_of(operands, *operands.inputs[0], y, 1);
  multiply(context, std::span(&product, 1));
  if (op.scale == 1 && !op.soft_cap) return one(std::move(y));
  for_rows(context, y.rows(), y.width() * 16, [&](std::int64_t begin, std::int64_t end) {
    const auto scale = static_cast<float>(op.scale);
    const auto cap = static_cast<float>(op.soft_cap.value_or(1));
    for (std::int64_t i = begin * y.width(); i < end * y.width(); ++i) {
      float value = y.data()[i] * scale;
      if (op.soft_cap) value = std::tanh(value / cap) * cap;
      y.data()[i] = value;
    }
  });
  return one(std::move(y));
}

}  // namespace plumb::cpu
