// Budgets are measured: the reference executor runs the same stage on the same inputs with the rounding of the suspect's dtype,
// and what that costs is the unit. Floors stand where our own rounding is kinder than an honest engine's order of summation.
#include "parity/checks.h"

#include <algorithm>
#include <cmath>

namespace plumb {
namespace {

// Honest engines differ from our rounding by this factor: fewer or more roundings inside a fused stage.
constexpr double kSpread = 3;

bool sums(const Operation& operation) {
  return std::holds_alternative<Linear>(operation) || std::holds_alternative<Attend>(operation) ||
         std::holds_alternative<Experts>(operation) || std::holds_alternative<Logits>(operation) ||
         std::holds_alternative<Router>(operation);
}

// Relative error that a float32 engine may have where ours, which sums in double, has none: element-wise stages round a few
// times, sums of n products in another order grow like the square root of n.
double float32_floor(const Operation& operation) {
  constexpr double kUnit = 0x1p-24;
  constexpr double kTerms = 4096;  // of a long dot product
  return sums(operation) ? kUnit * (8 + 2 * std::sqrt(kTerms)) : 6 * kUnit;
}

double unit_of(SuspectType type) {
  return type == SuspectType::kFloat32    ? 0x1p-24
         : type == SuspectType::kBfloat16 ? 0x1p-9
                                          : 0x1p-12;
}

}  // namespace

SuspectType suspect_type(const std::string& manifest_dtype, const std::vector<DType>& held) {
  if (manifest_dtype == "bfloat16") return SuspectType::kBfloat16;
  if (manifest_dtype == "float16") return SuspectType::kFloat16;
  if (manifest_dtype == "float32") return SuspectType::kFloat32;
  const auto count = [&](DType dtype) { return std::count(held.begin(), held.end(), dtype); };
  if (count(DType::kBF16) > count(DType::kF32) && count(DType::kBF16) > count(DType::kF16))
    return SuspectType::kBfloat16;
  return count(DType::kF16) > count(DType::kF32) ? SuspectType::kFloat16 : SuspectType::kFloat32;
}

Checker::Checker(const BoundGraph& network, const Captured& captured, SuspectType type,
                 ThreadPool& pool)
    : network_(network),
      captured_(captured),
      type_(type),
      pool_(pool),
      exact_(network, captured, Numerics(Precision::kFp64), pool, nothing_),
      rounded_(network, captured,
               Numerics(type == SuspectType::kBfloat16 ? Precision::kHfBf16 : Precision::kFp32),
               pool, nothing_) {}

double Checker::budget(const Operation& operation, const Tensor& exact,
                       const Tensor& rounded) const {
  const double own = residual(rounded, exact).relative_l2;
  const double floor = float32_floor(operation);
  if (type_ == SuspectType::kFloat32) return std::max(kSpread * own, floor);
  // Half precision is measured in float32 and scaled by the ratio of the units; bfloat16 is emulated.
  const double held = unit_of(type_);
  if (type_ == SuspectType::kFloat16)
    return std::max(kSpread * own * (0x1p-12 / 0x1p-24), 2 * held);
  return std::max(kSpread * own, held);
}

const Tensor& Checker::suspect(const Check& check) {
  return exact_.captured(check.step, check.value)->values;
}

std::vector<Check> Checker::run(const std::function<void(std::size_t, std::size_t)>& progress) {
  std::vector<Check> checks;
  const auto& stages = network_.graph.stages;
  const std::size_t all = captured_.steps().size() * stages.size();
  std::size_t done = 0;
  for (std::size_t step = 0; step < captured_.steps().size(); ++step) {
    const bool ids_known = !captured_.fed_ids(step).empty();
    for (int i = 0; i < static_cast<int>(stages.size()); ++i) {
      const Stage& stage = stages[static_cast<std::size_t>(i)];
      for (int o = 0; o < static_cast<int>(stage.outputs.size()); ++o) {
        const auto held = exact_.captured(step, {i, o});
        if (!held) continue;
        auto span = exact_.span_of(step, {i, o});
        if (!ids_known && std::binary_search(span.begin(), span.end(), 0))
          continue;  // stage 0 is the ids
        const Tensor& exact = exact_.computed(step, {i, o});
        if (exact.shape != held->values.shape) continue;
        Check check{.step = step,
                    .value = {i, o},
                    .stage = stage.outputs[static_cast<std::size_t>(o)].name,
                    .residual = residual(held->values, exact),
                    .budget = 0,
                    .span = std::move(span),
                    .fails = false};
        check.exact = std::holds_alternative<Router>(stage.operation) && o == 1;
        if (check.exact) {
          // Near ties may fall either way; what they do to the weights is judged there.
          check.budget = 1;
          check.fails = false;
        } else {
          check.budget = budget(stage.operation, exact, rounded_.computed(step, {i, o}));
          check.fails = check.residual.relative_l2 > check.budget ||
                        check.residual.worst_row > 6 * check.budget;
        }
        checks.push_back(std::move(check));
      }
      if (progress) progress(++done, all);
    }
  }
  return checks;
}

Tensor Checker::computed(const Check& check, const Patch& patch) {
  Recompute recompute(network_, captured_, Numerics(Precision::kFp64), pool_, patch);
  return recompute.computed(check.step, check.value);
}

Residual Checker::under(const Check& check, const Patch& patch) {
  const Tensor value = computed(check, patch);
  const Tensor& held = suspect(check);
  if (value.shape != held.shape) {
    return {.relative_l2 = 1e9,
            .worst_row = 1e9,
            .worst_token = 0,
            .largest = 1e9,
            .cosine = 0,
            .bit_match = 0};
  }
  return residual(held, value);
}

}  // namespace plumb
