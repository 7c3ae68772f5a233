// Channels of a token into other groups: slices and concatenations. Nothing is computed.
#include <algorithm>

#include "core/check.h"
#include "reference/kernels.h"

namespace plumb::reference {

Outputs run(const Slice& op, const StageOperands& operands, const StageContext&) {
  const Tensor& x = *operands.inputs[0];
  Tensor y = tensor_like(x, op.out);
  const std::int64_t group = x.width() / op.groups;
  const std::int64_t taken = y.width() / op.groups;
  PLUMB_CHECK(op.first >= 0 && op.first + taken <= group);
  for (std::int64_t t = 0; t < x.tokens(); ++t) {
    for (std::int64_t g = 0; g < op.groups; ++g) {
      const auto from = x.row(t).subspan(static_cast<std::size_t>(g * group + op.first),
                                         static_cast<std::size_t>(taken));
      std::ranges::copy(from, y.row(t).begin() + g * taken);
    }
  }
  return {std::move(y)};
}

Outputs run(const Concat&, const StageOperands& operands, const StageContext&) {
  std::int64_t width = 0;
  for (const Tensor* x : operands.inputs)
    width += x->width();
  Tensor y = tensor_like(*operands.inputs[0], {width});
  for (std::int64_t t = 0; t < y.tokens(); ++t) {
    auto out = y.row(t).begin();
    for (const Tensor* x : operands.inputs)
      out = std::ranges::copy(x->row(t), out).out;
  }
  return {std::move(y)};
}

Outputs run(const JoinHeads&, const StageOperands& operands, const StageContext&) {
  std::int64_t heads = 1;
  std::int64_t width = 0;
  for (const Tensor* x : operands.inputs) {
    heads = std::max(heads, x->shape[1]);
    width += x->shape[2];
  }
  Tensor y = tensor_like(*operands.inputs[0], {heads, width});
  for (std::int64_t t = 0; t < y.tokens(); ++t) {
    auto out = y.row(t).begin();
    for (std::int64_t h = 0; h < heads; ++h) {
      for (const Tensor* x : operands.inputs) {
        const std::int64_t own = x->shape[1] == 1 ? 0 : h;
        const auto from = x->row(t).subspan(static_cast<std::size_t>(own * x->shape[2]),
                                            static_cast<std::size_t>(x->shape[2]));
        out = std::ranges::copy(from, out).out;
      }
    }
  }
  return {std::move(y)};
}

}  // namespace plumb::reference
