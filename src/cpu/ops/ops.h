// One overload for each operation of graph/conventions.h, in float32. What is refused says so in unsupported().
#pragma once
#include <optional>
#include <string>

#include "cpu/context.h"

namespace plumb::cpu {

Outputs run(const Embed& op, const Operands& operands, const Context& context);
Outputs run(const Norm& op, const Operands& operands, const Context& context);
Outputs run(const Linear& op, const Operands& operands, const Context& context);
Outputs run(const JoinHeads& op, const Operands& operands, const Context& context);
Outputs run(const Rope& op, const Operands& operands, const Context& context);
Outputs run(const Attend& op, const Operands& operands, const Context& context);
Outputs run(const Gated& op, const Operands& operands, const Context& context);
Outputs run(const Activate& op, const Operands& operands, const Context& context);
Outputs run(const Slice& op, const Operands& operands, const Context& context);
Outputs run(const Concat& op, const Operands& operands, const Context& context);
Outputs run(const Convolution& op, const Operands& operands, const Context& context);
Outputs run(const L2Norm& op, const Operands& operands, const Context& context);
Outputs run(const LogDecay& op, const Operands& operands, const Context& context);
Outputs run(const DeltaRule& op, const Operands& operands, const Context& context);
Outputs run(const GatedNorm& op, const Operands& operands, const Context& context);
Outputs run(const Add& op, const Operands& operands, const Context& context);
Outputs run(const Clamp& op, const Operands& operands, const Context& context);
Outputs run(const Router& op, const Operands& operands, const Context& context);
Outputs run(const Experts& op, const Operands& operands, const Context& context);
Outputs run(const AttendShared& op, const Operands& operands, const Context& context);
Outputs run(const Compress& op, const Operands& operands, const Context& context);
Outputs run(const Collect& op, const Operands& operands, const Context& context);
Outputs run(const Index& op, const Operands& operands, const Context& context);
Outputs run(const Repeat& op, const Operands& operands, const Context& context);
Outputs run(const HyperConnection& op, const Operands& operands, const Context& context);
Outputs run(const Collapse& op, const Operands& operands, const Context& context);
Outputs run(const Mix& op, const Operands& operands, const Context& context);
Outputs run(const GroupedLinear& op, const Operands& operands, const Context& context);
Outputs run(const Narrow& op, const Operands& operands, const Context& context);
Outputs run(const Hadamard& op, const Operands& operands, const Context& context);
Outputs run(const Logits& op, const Operands& operands, const Context& context);

// Linear stages that read one value, all at once.
std::vector<Array> run_linears(std::span<const Operands> stages, const Context& context);

// Why this stage cannot run here; nothing where it can.
std::optional<std::string> unsupported(const Stage& stage);

float activation_of(Activation activation, float slope, float x);
float softplus(float x);

// How many of `count` blocks a query at `position` may see: the first ones.
std::int64_t visible_blocks(const Blocks& blocks, std::int64_t position, std::int64_t count);

// The ids of the `k` largest values, largest first; of equals the lowest id first.
std::vector<std::int64_t> largest(std::span<const float> values, std::int64_t k);

// activation(gate) * up for n elements, with the operation's limits and offset.
void gate_row(const Context& context, const Gated& op, const float* gate, const float* up,
              std::int64_t n, float* y);

}  // namespace plumb::cpu
