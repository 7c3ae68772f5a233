// Products of activations with matrices: which kernel, which rows on which thread.
#pragma once
#include <span>

#include "cpu/context.h"

namespace plumb::cpu {

// y[t][o] = sum_k W[o][k] x[t][group(o)][k] + bias[o]. With groups, W's rows fall into as many equal parts, each of which
// reads its own part of x.
struct Product {
  Matrix* matrix;
  const float* x;  // [tokens][groups][columns]
  std::int64_t x_stride;
  std::int64_t tokens;
  const float* bias;  // or null
  float* y;
  std::int64_t y_stride;
  std::int64_t groups = 1;
};

enum class ActivationForm : std::uint8_t { kFloat, kInt8, kInt16, kBf16, kSplit };

// In which form activations meet this matrix.
ActivationForm activations_for(const Matrix& matrix, Activations activations, const Kernels& kernels);

// Whether attention's products are from integers: where the projection of its values (null: none is known) meets rounded
// activations too, and the instruction set has such products.
bool rounds_attention(const Matrix* values, Activations activations, const Kernels& kernels);

// All of them, shared among the threads at once. Products of one x prepare it once.
void multiply(const Context& context, std::span<const Product> products);

}  // namespace plumb::cpu
