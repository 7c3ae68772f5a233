// What several operations share, and what this executor refuses.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "cpu/ops/ops.h"

namespace plumb::cpu {

Array array_like(const Array& x, const Shape& row_shape, const Context& context) {
  Shape shape{x.rows()};
  shape.insert(shape.end(), row_shape.begin(), row_shape.end());
  Array y(std::move(shape), *context.buffers);
  y.counts = x.counts;
  return y;
}

std::int64_t rows_of(const Array& x, const Context& context, std::size_t segment) {
  return x.counts.empty() ? context.segments[segment].rows : x.counts[segment];
}

bool wanted(const Operands& operands, std::size_t output, const Context& context) {
  return context.observer != nullptr && context.segments.size() == 1 &&
         context.observer->wants(operands.stage->outputs[output].name);
}

void for_rows(const Context& context, std::int64_t rows, std::int64_t cost,
              const std::function<void(std::int64_t, std::int64_t)>& work) {
  constexpr std::int64_t kLeast = 1 << 16;  // operations
  if (rows <= 0) return;
  if (rows == 1 || cost > (std::int64_t{1} << 40) / rows || rows * cost >= kLeast) {
    context.pool->for_rows(rows, work);
  } else {
    work(0, rows);
  }
}

std::vector<std::int64_t> largest(std::span<const float> values, std::int64_t k) {
  std::vector<std::int64_t> ids(values.size());
  std::iota(ids.begin(), ids.end(), std::int64_t{0});
  const auto better = [&](std::int64_t a, std::int64_t b) {
    const float x = values[static_cast<std::size_t>(a)];
    const float y = values[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  };
  std::partial_sort(ids.begin(), ids.begin() + k, ids.end(), better);
  ids.resize(static_cast<std::size_t>(k));
  return ids;
}

float softplus(float x) {
  return std::max(x, 0.0F) + std::log1p(std::exp(-std::abs(x)));
}

float activation_of(Activation activation, float slope, float x) {
  switch (activation) {
    case Activation::kSilu:
    case Activation::kSteppedSilu:
      return x / (1 + std::exp(-slope * x));
    case Activation::kGeluTanh:
      return 0.5F * x * (1 + std::tanh(0.79788456080286535588F * (x + 0.044715F * x * x * x)));
    case Activation::kGeluErf:
      return 0.5F * x * (1 + std::erf(x * 0.70710678118654752440F));
    case Activation::kRelu:
      return std::max(x, 0.0F);
    case Activation::kSigmoid:
      return 1 / (1 + std::exp(-x));
  }
  return x;
}

namespace {

struct Refusal {
  std::optional<std::string> operator()(const auto& /*op*/) const { return std::nullopt; }
  std::optional<std::string> operator()(const Linear& op) const {
    if (op.order == WeightOrder::kInOut) return "products with a transposed weight";
    return std::nullopt;
  }
  std::optional<std::string> operator()(const Attend& op) const {
    if (op.future != 0) return "keys after the query's own position";
    return std::nullopt;
  }
  std::optional<std::string> operator()(const Gated& op) const { return of_gate(op); }
  std::optional<std::string> operator()(const Experts& op) const { return of_gate(op.gated); }
  static std::optional<std::string> of_gate(const Gated& op) {
    if (op.limit && op.limit_sides != ClampSides::kGateAbove) return "a gate's limit on other sides than published models have";
    return std::nullopt;
  }
  std::optional<std::string> operator()(const DeltaRule& op) const {
    if (op.form == DeltaForm::kChunked) return "the chunked form, whose results depend on the chunks";
    if (op.held != HeldRead::kAfterDecay) return "a write that does not read the state behind its decay";
    if (op.strength == WriteStrength::kOnValueAlone) return "a write strength on the value alone";
    return std::nullopt;
  }
};

}  // namespace

std::optional<std::string> unsupported(const Stage& stage) {
  return std::visit(Refusal(), stage.operation);
}

}  // namespace plumb::cpu
