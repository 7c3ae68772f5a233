// Budgets are measured: the reference executor runs the same stage on the same inputs with the rounding of the suspect's dtype,
// and what that costs is the unit. Floors stand where our own rounding is kinder than an honest engine's order of summation.
#include "parity/checks.h"

#include <algorithm>
#include <cmath>

#include "engine/sampler.h"

namespace plumb {
namespace {

// Honest engines differ from our rounding by this factor: fewer or more roundings inside a fused stage.
constexpr double kSpread = 3;

bool sums(const Operation& operation) {
  return std::holds_alternative<Linear>(operation) || std::holds_alternative<Attend>(operation) ||
         std::holds_alternative<Experts>(operation) || std::holds_alternative<Logits>(operation) ||
         std::holds_alternative<Router>(operation) || std::holds_alternative<DeltaRule>(operation);
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
      rounded_(network, captured, rounding(), pool, nothing_) {}

Numerics Checker::rounding() const {
  return Numerics(type_ == SuspectType::kFloat32 ? Precision::kFp32 : Precision::kHfBf16);
}

double Checker::budget(const Operation& operation, const Tensor& exact,
                       const Tensor& rounded) const {
  const double own = residual(rounded, exact).relative_l2;
  const double floor = float32_floor(operation);
  if (type_ == SuspectType::kFloat32) return std::max(kSpread * own, floor);
  // bfloat16 is emulated; float16 is rounded at the same places, by the ratio of the units. It is another sample of that noise.
  constexpr double kOtherSample = 1.5;
  const double held = unit_of(type_);
  if (type_ == SuspectType::kFloat16)
    return std::max(kOtherSample * kSpread * own * (0x1p-12 / 0x1p-9), 2 * held);
  return std::max(kSpread * own, held);
}

// The suspect's tensor as a check takes it; null where it has another shape than the stage's.
std::shared_ptr<const Tensor> Checker::report(std::size_t step, Value value, Reported reported) {
  const Key key{step, value.stage, value.output, reported};
  if (const auto found = reports_.find(key); found != reports_.end()) return found->second;
  const Output& output = network_.graph.output(value);
  const std::int64_t tokens = captured_.steps()[step].count;
  std::shared_ptr<const Tensor> result;
  const auto wrap = [](std::shared_ptr<const CapturedValue> held) {
    return std::shared_ptr<const Tensor>(held, &held->values);
  };
  if (reported == Reported::kLogprobs) {
    const auto ids = captured_.value(step, "logprobs.ids");
    const auto held = captured_.value(step, "logprobs");
    if (ids && held && ids->values.shape == held->values.shape && held->values.shape.size() == 2 &&
        held->values.tokens() >= 1 && held->values.tokens() <= tokens) {
      const auto vocab = static_cast<double>(output.shape[0]);
      if (std::all_of(ids->values.data.begin(), ids->values.data.end(),
                      [&](double id) { return id >= 0 && id < vocab; })) {
        reported_ids_[step] = ids;
        result = wrap(held);
      }
    }
  } else if (const auto held = exact_.captured(step, value)) {
    result = wrap(held);
  } else if (const auto some = captured_.value(step, output.name);
             some && output.per_token && some->values.shape.size() == output.shape.size() + 1 &&
             some->values.tokens() == 1 && tokens > 1 &&
             std::equal(output.shape.begin(), output.shape.end(), some->values.shape.begin() + 1)) {
    result = wrap(some);  // the last token alone
  }
  return reports_[key] = std::move(result);
}

// Of our output what the suspect reported of its own: the last rows, log-probabilities of the same ids.
Tensor Checker::reported(const Check& check, const Tensor& computed) const {
  const Tensor& held = *reports_.at({check.step, check.value.stage, check.value.output,
                                     check.reported});
  if (check.reported == Reported::kValues &&
      (held.tokens() == computed.tokens() || !network_.graph.output(check.value).per_token))
    return computed;
  const std::int64_t first = computed.tokens() - held.tokens();
  if (first < 0) return computed;
  Tensor result(held.shape);
  for (std::int64_t t = 0; t < held.tokens(); ++t) {
    const auto row = computed.row(first + t);
    if (check.reported == Reported::kValues) {
      std::copy(row.begin(), row.end(), result.row(t).begin());
      continue;
    }
    const auto all = log_softmax(row);
    const auto ids = reported_ids_.at(check.step)->values.row(t);
    for (std::size_t i = 0; i < ids.size(); ++i)
      result.row(t)[i] = all[static_cast<std::size_t>(ids[i])];
  }
  return result;
}

const Tensor& Checker::suspect(const Check& check) {
  return *report(check.step, check.value, check.reported);
}

std::optional<Check> Checker::check(std::size_t step, Value value, Reported as) {
  const auto held = report(step, value, as);
  if (!held) return std::nullopt;
  auto span = exact_.span_of(step, value);
  if (captured_.fed_ids(step).empty() && std::binary_search(span.begin(), span.end(), 0))
    return std::nullopt;  // stage 0 is the ids
  const Stage& stage = network_.graph.stages[static_cast<std::size_t>(value.stage)];
  Check check{.step = step,
              .value = value,
              .stage = as == Reported::kLogprobs
                           ? "logprobs"
                           : stage.outputs[static_cast<std::size_t>(value.output)].name,
              .residual = {},
              .budget = 1,
              .span = std::move(span),
              .fails = false};
  check.reported = as;
  const Tensor exact = reported(check, exact_.computed(step, value));
  if (exact.shape != held->shape) return std::nullopt;
  check.residual = residual(*held, exact);
  // Near ties of a router may fall either way; what they do to the weights is judged there.
  check.exact = std::holds_alternative<Router>(stage.operation) && value.output == 1;
  if (!check.exact) {
    check.budget =
        budget(stage.operation, exact, reported(check, rounded_.computed(step, value)));
    check.fails = !(check.residual.relative_l2 <= check.budget &&
                    check.residual.worst_row <= 6 * check.budget);
  }
  return check;
}

std::vector<Check> Checker::run(const std::function<void(std::size_t, std::size_t)>& progress) {
  std::vector<Check> checks;
  const auto& stages = network_.graph.stages;
  const std::size_t all = captured_.steps().size() * stages.size();
  std::size_t done = 0;
  for (std::size_t step = 0; step < captured_.steps().size(); ++step) {
    for (int i = 0; i < static_cast<int>(stages.size()); ++i) {
      const auto outputs = static_cast<int>(stages[static_cast<std::size_t>(i)].outputs.size());
      for (int o = 0; o < outputs; ++o) {
        if (auto found = check(step, {i, o}, Reported::kValues)) checks.push_back(*found);
      }
      if (progress) progress(++done, all);
    }
    if (auto found = check(step, network_.graph.logits, Reported::kLogprobs))
      checks.push_back(*found);
  }
  return checks;
}

Tensor Checker::computed(const Check& check, const Patch& patch) {
  Recompute recompute(exact_, pool_, patch, touched_stages(network_, patch));
  return reported(check, recompute.computed(check.step, check.value));
}

double Checker::budget_under(const Check& check, const Patch& patch) {
  Recompute rounded(rounded_, pool_, patch, touched_stages(network_, patch));
  const Stage& stage = network_.graph.stages[static_cast<std::size_t>(check.value.stage)];
  return budget(stage.operation, computed(check, patch),
                reported(check, rounded.computed(check.step, check.value)));
}

namespace {

constexpr Residual kIncomparable{.relative_l2 = 1e9,
                                 .worst_row = 1e9,
                                 .worst_token = 0,
                                 .largest = 1e9,
                                 .cosine = 0,
                                 .bit_match = 0};

}  // namespace

Residual Checker::under(const Check& check, const Patch& patch) {
  const Tensor value = computed(check, patch);
  const Tensor& held = suspect(check);
  return value.shape == held.shape ? residual(held, value) : kIncomparable;
}

Trial::Trial(Checker& checker, const Check& check, Patch base)
    : checker_(checker),
      check_(check),
      base_(std::move(base)),
      serial_(1),
      recompute_(checker.exact_, checker.pool_, base_, touched_stages(checker.network_, base_)),
      suspect_(checker.suspect(check)),
      before_(residual_of(recompute_.computed(check.step, check.value))) {}

Residual Trial::residual_of(const Tensor& computed) const {
  const Tensor value = checker_.reported(check_, computed);
  return value.shape == suspect_.shape ? residual(suspect_, value) : kIncomparable;
}

Residual Trial::under(const Patch& patch, const std::set<int>& touched) const {
  Recompute recompute(recompute_, serial_, patch, touched);
  return residual_of(recompute.computed(check_.step, check_.value));
}

}  // namespace plumb
