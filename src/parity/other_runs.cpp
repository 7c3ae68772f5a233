// What a run starts from is moved: captured values, and the embedding where passes are computed from their ids.
#include "parity/other_runs.h"

#include <variant>

#include "reference/kernels.h"

namespace plumb {
namespace {

std::uint64_t seed_of(int number) {
  return static_cast<std::uint64_t>(number) * 0x9e3779b97f4a7c15U;  // golden ratio: bits all over the word
}

std::vector<Tensor> bias_behind_the_product(const Stage& stage, const StageOperands& operands, const StageContext& context) {
  Stage product = stage;
  std::get<Linear>(product.operation).bias = false;
  StageOperands given = operands;
  given.weights.resize(1);
  auto result = run_stage(product, given, context);
  const auto bias = reference::read_vector(*operands.weights[1], context.numerics);
  for (std::size_t i = 0; i < result[0].data.size(); ++i)
    result[0].data[i] = context.numerics.activation(result[0].data[i] + bias[i % bias.size()]);
  return result;
}

}  // namespace

OtherRuns::OtherRuns(const BoundGraph& network, const Captured& captured, const Arithmetic& arithmetic, ThreadPool& pool)
    : network_(network), captured_(captured), arithmetic_(arithmetic), pool_(pool), runs_(kCount) {}

// Where values were narrowed as they were written, moving them is part of the error: the suspect computed from others than those captured.
OtherRuns::Run::Run(const OtherRuns& all, int number)
    : captured(all.captured_, dtype_of(all.arithmetic_.type), seed_of(number + 1)),
      exact_patch(all.patch_of(number, false)),
      rounded_patch(all.patch_of(number, true)),
      exact(all.network_, all.arithmetic_.narrowed ? all.captured_ : captured, Numerics(all.arithmetic_.formula), all.pool_, exact_patch),
      rounded(all.network_, captured,
              Numerics(all.arithmetic_.profiles[static_cast<std::size_t>(number) % all.arithmetic_.profiles.size()]), all.pool_, rounded_patch) {}

Patch OtherRuns::patch_of(int number, bool rounds) const {
  const auto round = static_cast<std::size_t>(number) / arithmetic_.profiles.size();
  Patch patch;
  for (int i = 0; i < static_cast<int>(network_.graph.stages.size()); ++i) {
    const Operation& operation = network_.graph.stages[static_cast<std::size_t>(i)].operation;
    if (std::holds_alternative<Embed>(operation)) {
      patch.computations[i] = [type = dtype_of(arithmetic_.type), seed = seed_of(number + 1)](
                                  const Stage& stage, const StageOperands& operands, const StageContext& context) {
        auto result = run_stage(stage, operands, context);
        result[0] = jittered(result[0], type, seed);
        return result;
      };
    }
    const auto* linear = std::get_if<Linear>(&operation);
    if (rounds && round % 2 == 0 && linear != nullptr && linear->bias) patch.computations[i] = bias_behind_the_product;
  }
  return patch;
}

OtherRuns::Run& OtherRuns::at(int run) {
  auto& held = runs_[static_cast<std::size_t>(run)];
  if (held == nullptr) held = std::make_unique<Run>(*this, run);
  return *held;
}

}  // namespace plumb
