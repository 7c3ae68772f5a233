// Budgets are measured: the reference executor runs the same stage on the same inputs with the rounding of the suspect's dtype,
// and what that costs is the unit. Floors stand where our own rounding is kinder than an honest engine's order of summation.
#include "parity/checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/sampler.h"
#include "graph/rope.h"
#include "parity/captured_views.h"

namespace plumb {
namespace {

// Honest engines differ from our rounding by this factor: fewer or more roundings inside a fused stage.
constexpr double kSpread = 3;

bool sums(const Operation& operation) {
  return std::holds_alternative<Linear>(operation) || std::holds_alternative<Attend>(operation) ||
         std::holds_alternative<Experts>(operation) || std::holds_alternative<Logits>(operation) ||
         std::holds_alternative<Router>(operation) ||
         std::holds_alternative<HyperConnection>(operation) ||
         std::holds_alternative<GroupedLinear>(operation) ||
         std::holds_alternative<AttendShared>(operation) ||
         std::holds_alternative<Index>(operation) || std::holds_alternative<Mix>(operation) ||
         std::holds_alternative<DeltaRule>(operation);
}

// Relative error that a float32 engine may have where ours, which sums in double, has none: element-wise stages round a few
// times, sums of n products in another order grow like the square root of n.
double float32_floor(const Operation& operation) {
  constexpr double kUnit = 0x1p-24;
  constexpr double kTerms = 4096;  // of a long dot product
  return sums(operation) ? kUnit * (8 + 2 * std::sqrt(kTerms)) : 6 * kUnit;
}

// What a rotation may be off by where its angles are float32: engines take frequencies in double and round them, or as repeated products, and
// each angle is rounded once more, by a share of itself that is no share of the rotated values. The root of the mean over tokens and pairs.
double angle_floor(const Rope& rope, const TraceStep& step, std::int64_t known_length) {
  constexpr double kRoundings = 2;  // of the frequency, of the product with the position
  constexpr double kUnit = 0x1p-24;
  const auto frequencies = inverse_frequencies<double>(rope.frequencies, rope.dims, known_length);
  double squares = 0;
  for (const double frequency : frequencies)
    squares += frequency * frequency / static_cast<double>(std::max<std::size_t>(frequencies.size(), 1));
  double positions = 0;
  for (std::int64_t t = step.first; t < step.first + step.count; ++t)
    positions += static_cast<double>(t) * static_cast<double>(t) / static_cast<double>(step.count);
  return kRoundings * kUnit * std::sqrt(squares * positions);
}

double unit_of(SuspectType type) {
  return type == SuspectType::kFloat32    ? 0x1p-24
         : type == SuspectType::kBfloat16 ? 0x1p-9
                                          : 0x1p-12;
}

constexpr Residual kIncomparable{.relative_l2 = 1e9,
                                 .worst_row = 1e9,
                                 .worst_token = 0,
                                 .largest = 1e9,
                                 .cosine = 0,
                                 .bit_match = 0};

// How many numbers carry a tensor's norm: all where they are alike, one where it is much the largest.
double carrying(const Tensor& values) {
  double squares = 0;
  double fourths = 0;
  for (const double value : values.data) {
    if (!std::isfinite(value)) continue;
    squares += value * value;
    fourths += value * value * value * value;
  }
  return fourths > 0 ? squares * squares / fourths : 1;
}

// Choices of the largest scores: any of those that tie, in any order, is right. The share of tokens that chose otherwise.
Residual choice_residual(const Tensor& chosen, const Tensor& scores, double noise) {
  Residual r{};
  r.cosine = 1;
  std::int64_t wrong = 0;
  for (std::int64_t t = 0; t < chosen.tokens(); ++t) {
    std::vector<double> visible;
    for (const double score : scores.row(t)) {
      if (std::isfinite(score)) visible.push_back(score);
    }
    std::sort(visible.begin(), visible.end(), std::greater<>());
    const std::size_t count = std::min(visible.size(), chosen.row(t).size());
    const double scale = visible.empty() ? 0 : std::abs(visible.front());
    const double least = count > 0 ? visible[count - 1] - noise * scale : 0;
    std::vector<double> ids;
    bool right = true;
    for (const double id : chosen.row(t)) {
      if (id < 0) continue;
      const auto place = static_cast<std::size_t>(id);
      right = right && place < scores.row(t).size() && scores.row(t)[place] >= least;
      ids.push_back(id);
    }
    std::sort(ids.begin(), ids.end());
    const bool twice = std::adjacent_find(ids.begin(), ids.end()) != ids.end();
    if (right && !twice && ids.size() == count) continue;
    if (wrong++ == 0) r.worst_token = t;
  }
  const auto tokens = static_cast<double>(std::max<std::int64_t>(chosen.tokens(), 1));
  r.relative_l2 = r.worst_row = r.largest = static_cast<double>(wrong) / tokens;
  r.bit_match = 1 - r.relative_l2;
  return r;
}

// Over keys: a side that holds fewer columns lacks the oldest or the newest ones, which the other must mask.
Residual keyed_residual(const Tensor& y, const Tensor& f, bool scores) {
  if (y.shape == f.shape) {
    if (scores || std::ranges::none_of(y.data, [](double value) { return std::isnan(value); }))
      return residual(y, f);
    // A query that sees no key: softmax of nothing is 0 / 0 in most engines. One that sees what is no number: so is all of its row.
    Tensor known = y;
    Tensor spread = f;
    const auto keys = static_cast<std::ptrdiff_t>(y.shape.back());
    auto ours = spread.data.begin();
    for (auto row = known.data.begin(); row != known.data.end(); row += keys, ours += keys) {
      const auto is_zero = [](double value) { return value == 0; };
      const auto is_nan = [](double value) { return std::isnan(value); };
      if (!std::all_of(row, row + keys, is_nan)) continue;
      if (std::all_of(ours, ours + keys, is_zero)) std::fill_n(row, keys, 0.0);
      if (std::any_of(ours, ours + keys, is_nan)) std::fill_n(ours, keys, std::nan(""));
    }
    return residual(known, spread);
  }
  if (y.shape.size() != f.shape.size() ||
      !std::equal(y.shape.begin(), y.shape.end() - 1, f.shape.begin()))
    return kIncomparable;
  const std::int64_t width = std::max(y.shape.back(), f.shape.back());
  const double nothing = scores ? -std::numeric_limits<double>::infinity() : 0;
  const auto widened = [&](const Tensor& x, bool newest_last) {
    Shape shape = x.shape;
    shape.back() = width;
    Tensor wide(shape);
    std::ranges::fill(wide.data, nothing);
    const std::int64_t own = x.shape.back();
    const auto rows = own > 0 ? static_cast<std::int64_t>(x.data.size()) / own : 0;
    for (std::int64_t r = 0; r < rows; ++r) {
      std::copy_n(x.data.begin() + r * own, own,
                  wide.data.begin() + r * width + (newest_last ? width - own : 0));
    }
    return wide;
  };
  const Residual last = residual(widened(y, true), widened(f, true));
  const Residual first = residual(widened(y, false), widened(f, false));
  return first.relative_l2 < last.relative_l2 ? first : last;
}

bool over_keys(const Stage& stage, int output) {
  return output < 2 && (std::holds_alternative<Attend>(stage.operation) ||
                        std::holds_alternative<AttendShared>(stage.operation));
}

// Whether a number of the suspect's is none of ours: something was divided by a field that a hypothesis has as 0, say. Such a hypothesis explains
// nothing, however much its other elements are like the suspect's. A score of -inf is masked.
bool loses_numbers(const Tensor& suspect, const Tensor& ours, bool scores) {
  if (suspect.shape != ours.shape) return false;
  for (std::size_t i = 0; i < ours.data.size(); ++i) {
    const double value = ours.data[i];
    if (!std::isfinite(value) && std::isfinite(suspect.data[i]) && !(scores && value < 0)) return true;
  }
  return false;
}

// Entries that a choice yields: another number of them than ours is a fault of the choice, not a trace that cannot be read.
bool chosen_entries(const Stage& stage, int output) {
  return (std::holds_alternative<Router>(stage.operation) && output > 0) ||
         (std::holds_alternative<Index>(stage.operation) && output == 1);
}

// A list to which nothing came of what a pass completed: that of the pass before. What else has another number of rows may be
// the new ones alone.
bool stands_still(const Tensor& held, const Tensor& all, std::int64_t added) {
  constexpr double kSame = 1e-2;
  if (added < 1 || held.tokens() < 1 || held.tokens() + added != all.tokens() || held.width() != all.width()) return false;
  Tensor before(held.shape);
  std::copy_n(all.data.begin(), before.data.size(), before.data.begin());
  return residual(held, before).relative_l2 < kSame;
}

}  // namespace

Checker::Checker(const BoundGraph& network, const Captured& captured, Arithmetic arithmetic,
                 ThreadPool& pool)
    : network_(network),
      captured_(captured),
      jittered_(arithmetic.narrowed ? std::make_unique<Jittered>(captured, dtype_of(arithmetic.type), 0) : nullptr),
      arithmetic_(std::move(arithmetic)),
      pool_(pool),
      profile_(arithmetic_.profiles.front()),
      exact_(network, captured, Numerics(arithmetic_.formula), pool, nothing_),
      others_(network, captured, arithmetic_, pool) {
  // llama.cpp's own rounding is part of the formula; what it costs is the distance from the exact one.
  rounded_.reserve(arithmetic_.profiles.size());
  for (const Precision profile : arithmetic_.profiles)
    rounded_.emplace_back(network, jittered_ ? *jittered_ : captured,
                          Numerics(profile == arithmetic_.formula ? Precision::kFp64 : profile), pool, nothing_);
}

Recompute& Checker::run_in(Precision profile) {
  const auto at = std::ranges::find(arithmetic_.profiles, profile) - arithmetic_.profiles.begin();
  return rounded_[static_cast<std::size_t>(at)];
}

double Checker::budget(const Check& check, const Tensor& exact, const Tensor& rounded) const {
  const auto operation = [&](int index) -> const Operation& {
    return network_.graph.stages[static_cast<std::size_t>(index)].operation;
  };
  // What overflows in the suspect's dtype is no rounding: it is judged by the rest.
  Tensor finite = rounded;
  for (std::size_t i = 0; i < finite.data.size() && finite.shape == exact.shape; ++i) {
    if (!std::isfinite(finite.data[i]) && std::isfinite(exact.data[i])) finite.data[i] = exact.data[i];
  }
  const double own = residual(finite, exact).relative_l2;
  double floor = float32_floor(operation(check.value.stage));
  if (const auto* rope = std::get_if<Rope>(&operation(check.value.stage)))
    floor = std::max(floor, angle_floor(*rope, captured_.steps()[check.step], captured_.known_length(check.step)));
  // Sums in other orders reach what comes after them, diluted.
  constexpr double kAfterSums = 32 * 0x1p-24;
  if (check.span.size() > 1 && std::any_of(check.span.begin(), check.span.end(),
                                           [&](int index) { return sums(operation(index)); }))
    floor = std::max(floor, kAfterSums);
  // Operands captured to the bit are rounded to the same bits, but for few that an order of summation decides.
  constexpr double kRoundedOtherwise = 0.05;
  // What experts multiply inside is not captured: of codes as fine as those of 16 bits some fall otherwise, each by more than that.
  constexpr double kFineCodes = 0x1p-12;
  const bool inside = std::holds_alternative<Experts>(operation(check.value.stage)) && own < kFineCodes;
  // Attention scales queries before they are rounded in some models (Gemma), and after in others.
  const bool operands = arithmetic_.formula != Precision::kFp64 && alone(network_, check.span) && !inside &&
                        !std::holds_alternative<Attend>(operation(check.value.stage));
  if (type() == SuspectType::kFloat32)
    return std::max((operands ? kRoundedOtherwise : kSpread) * own, floor);
  const double held = unit_of(type());
  // One more rounding of the whole, by as much as few elements may come out on one side.
  constexpr std::size_t kFew = 512;
  return std::max(kSpread * own, (exact.data.size() < kFew ? 2 : 1.25) * held);
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
             some->values.tokens() >= 1 && some->values.tokens() < tokens &&
             std::equal(output.shape.begin(), output.shape.end(), some->values.shape.begin() + 1,
                        [](std::int64_t ours, std::int64_t theirs) { return ours == kAnyLength || ours == theirs; })) {
    result = wrap(some);  // the last tokens alone
  } else if (some &&
             chosen_entries(network_.graph.stages[static_cast<std::size_t>(value.stage)],
                            value.output) &&
             some->values.shape.size() == 2 && some->values.tokens() == tokens) {
    result = wrap(some);
  }
  return reports_[key] = std::move(result);
}

// Of our output what the suspect reported of its own: the last rows, log-probabilities of the same ids.
Tensor Checker::reported(const Check& check, const Tensor& computed) const {
  const Tensor& held =
      *reports_.at({check.step, check.value.stage, check.value.output, check.reported});
  if (check.reported == Reported::kValues &&
      (held.tokens() == computed.tokens() || !network_.graph.output(check.value).per_token))
    return computed;
  const std::int64_t first = computed.tokens() - held.tokens();
  if (first < 0) return computed;
  // Rows over keys may be of another width than the suspect's.
  Shape shape = check.reported == Reported::kValues ? computed.shape : held.shape;
  shape[0] = held.tokens();
  Tensor result(std::move(shape));
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

std::vector<double> Checker::row_errors(const Check& check) {
  const Tensor value = reported(check, exact_.computed(check.step, check.value));
  const Tensor& held = suspect(check);
  return value.shape == held.shape ? plumb::row_errors(held, value) : std::vector<double>{};
}

std::optional<Check> Checker::unjudged(std::size_t step, Value value, Reported as) {
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
  check.profile = arithmetic_.profiles.front();
  return check;
}

std::optional<Residual> Checker::apart(std::size_t step, Value value, Reported as) {
  const auto check = unjudged(step, value, as);
  if (!check) return std::nullopt;
  const Tensor ours = reported(*check, exact_.computed(step, value));
  if (ours.shape != suspect(*check).shape) return std::nullopt;
  return compared(*check, exact_);
}

std::optional<Check> Checker::check(std::size_t step, Value value, Reported as) {
  auto made = unjudged(step, value, as);
  if (!made) return std::nullopt;
  Check& check = *made;
  const auto held = report(step, value, as);
  const Stage& stage = network_.graph.stages[static_cast<std::size_t>(value.stage)];
  const Tensor exact = reported(check, exact_.computed(step, value));
  const bool still = std::holds_alternative<Collect>(stage.operation) &&
                     stands_still(*held, exact, exact_.computed(step, stage.inputs[0]).tokens());
  const bool other_count = exact.shape != held->shape && (still || chosen_entries(stage, value.output));
  if (exact.shape != held->shape && !over_keys(stage, value.output) && !other_count)
    return std::nullopt;
  check.residual = compared(check, exact_);
  if (other_count) {  // ids are compared as they are
    check.budget = 1e-6;
    check.fails = true;
    return check;
  }
  // Near ties of a router may fall either way; what they do to the weights is judged there.
  check.exact = std::holds_alternative<Router>(stage.operation) && value.output == 1;
  const bool chosen = std::holds_alternative<Index>(stage.operation) && value.output == 1;
  choose_profile(check);
  if (!check.exact) {
    check.budget = chosen ? 0.5 / static_cast<double>(std::max<std::int64_t>(exact.tokens(), 1))
                          : budget(check, exact, reported(check, run_in(check.profile).computed(step, value)));
    check.fails = !within(check.residual, check.budget);
    if (!chosen) draw_again(check);
  }
  return check;
}

// What one drawing of rounding errors has beyond the budget, others may have within it: the largest of them counts. A float32 suspect's
// floor covers what its few roundings cost.
void Checker::draw_again(Check& check) {
  constexpr double kNear = 4;  // times the budget
  if (type() == SuspectType::kFloat32 || !(check.residual.relative_l2 <= kNear * check.budget)) return;
  // A result that ours leave next to a number of the type may be rounded to the one beside it: by at most half a step where one number
  // carries the norm, and of n such numbers by that share of half a step that is left when they fall to all sides.
  const double step = 2 * unit_of(type());
  for (int run = 0; run < OtherRuns::kCount && check.fails; ++run) {
    const Tensor exact = reported(check, others_.exact(run).computed(check.step, check.value));
    const Tensor rounded = reported(check, others_.rounded(run).computed(check.step, check.value));
    if (exact.shape != rounded.shape) continue;
    check.budget = std::max(check.budget, budget(check, exact, rounded) + step / std::sqrt(carrying(exact)));
    check.fails = !within(check.residual, check.budget);
  }
}

std::vector<Check> Checker::run(Progress& progress) {
  std::vector<Check> checks;
  const auto& stages = network_.graph.stages;
  const std::size_t all = captured_.steps().size() * stages.size();
  std::size_t done = 0;
  for (std::size_t step = 0; step < captured_.steps().size(); ++step) {
    for (int i = 0; i < static_cast<int>(stages.size()); ++i) {
      const Stage& stage = stages[static_cast<std::size_t>(i)];
      const bool source = std::holds_alternative<Tokens>(stage.operation) ||
                          std::holds_alternative<Positions>(stage.operation);
      for (int o = 0; o < std::ssize(stage.outputs) && !source; ++o) {
        if (wanted_ && !wanted_(stage.outputs[static_cast<std::size_t>(o)].name)) continue;
        if (auto found = check(step, {i, o}, Reported::kValues)) checks.push_back(*found);
      }
      ++done;
      progress.tell([&] { return fmt::format("stage {} of {}", done, all); });
    }
    if (wanted_ && !wanted_(network_.graph.output(network_.graph.logits).name)) continue;
    if (auto found = check(step, network_.graph.logits, Reported::kLogprobs))
      checks.push_back(*found);
  }
  const auto count = [&](Precision profile) { return std::ranges::count(checks, profile, &Check::profile); };
  for (const Precision profile : arithmetic_.profiles)
    if (count(profile) > count(profile_)) profile_ = profile;
  return checks;
}

Tensor Checker::computed(const Check& check, const Patch& patch) {
  Recompute recompute(exact_, pool_, patch, touched_stages(network_, patch));
  return reported(check, recompute.computed(check.step, check.value));
}

Tensor Checker::whole(const Check& check, const Patch& patch) {
  Recompute recompute(exact_, pool_, patch, touched_stages(network_, patch));
  return recompute.computed(check.step, check.value);
}

Tensor Checker::rounded(const Check& check, const Patch& patch) {
  Recompute recompute(run_in(check.profile), pool_, patch, touched_stages(network_, patch));
  return reported(check, recompute.computed(check.step, check.value));
}

double Checker::budget_under(const Check& check, const Patch& patch) {
  return budget(check, computed(check, patch), rounded(check, patch));
}

// The nearest of the profiles; the engine's own where they are equally near.
void Checker::choose_profile(Check& check) {
  double least = std::numeric_limits<double>::infinity();
  for (const Precision profile : arithmetic_.profiles) {
    const Residual apart = compared(check, profile == arithmetic_.formula ? exact_ : run_in(profile));
    if (!(apart.relative_l2 < least)) continue;
    least = apart.relative_l2;
    check.profile = profile;
    check.bit_match = apart.bit_match;
  }
}

Residual Checker::compared(const Check& check, Recompute& recompute) const {
  const Tensor& held =
      *reports_.at({check.step, check.value.stage, check.value.output, check.reported});
  const Stage& stage = network_.graph.stages[static_cast<std::size_t>(check.value.stage)];
  if (std::holds_alternative<Index>(stage.operation) && check.value.output == 1) {
    if (recompute.computed(check.step, check.value).shape != held.shape) return kIncomparable;
    const double noise = 64 * unit_of(type());
    return choice_residual(held, recompute.computed(check.step, {check.value.stage, 0}), noise);
  }
  const Tensor value = reported(check, recompute.computed(check.step, check.value));
  const bool keyed = over_keys(stage, check.value.output);
  const bool scores = keyed && check.value.output == 0;
  if (recompute.patched(check.step) && loses_numbers(held, value, scores)) return kIncomparable;
  if (keyed) return keyed_residual(held, value, scores);
  return value.shape == held.shape ? residual(held, value) : kIncomparable;
}

Residual Checker::under(const Check& check, const Patch& patch) {
  Recompute recompute(exact_, pool_, patch, touched_stages(network_, patch));
  return compared(check, recompute);
}

}  // namespace plumb
