// What a network asks of a machine: bytes of weights to read, products to compute. Speeds are compared with these.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "graph/executor.h"

namespace plumb {

// What most of a network's products are made with at best, by the form of its weights.
enum class ProductForm : std::uint8_t {
  kFloat32,
  kBfloat16,  // BF16 and F16 weights
  kInt8,      // weights that are whole numbers times a scale
};

std::string_view to_string(ProductForm form);  // "fp32", "bf16", "int8"

struct Work {
  // Of stored weights, for one step in which each of `tokens` sequences goes on by one token. Of experts those that a step
  // chooses, on average if each choice is as likely as any other; of tables one row for each token.
  double step_bytes = 0;
  // Multiplications and additions of weights' products for one token of a prompt, and for one row of logits. Attention's
  // products are not among them.
  double token_operations = 0;
  double logits_operations = 0;
  ProductForm form = ProductForm::kFloat32;
  std::string format;  // of the weights that most products are with: Weight::format()
};

Work work_of(const BoundGraph& network, std::int64_t tokens);

std::uint64_t stored_bytes(const BoundGraph& network);
std::uint64_t parameter_count(const BoundGraph& network);

}  // namespace plumb
