// Positions in the passes after the first: counted anew, or off by a constant. Rotation reads them everywhere; what a query sees may go by them
// too, or by the slots of the cache.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "graph/builder.h"
#include "parity/computing.h"

namespace plumb {
namespace {

constexpr std::size_t kRopePositions = 1;    // operand
constexpr std::size_t kAttendPositions = 3;  // operand

// What is added to each position of a pass that begins at `first`.
using Shift = double (*)(double first, double number);

// One query at a position of its own among keys at theirs, which need not ascend: the cache is cut to what it sees.
std::vector<Tensor> sees_by_position(const Stage& stage, const StageOperands& operands, const StageContext& context, double position) {
  const auto& op = std::get<Attend>(stage.operation);
  auto& held = std::get<KeyValueCache>(*operands.states[0]);
  StateValue cut = held;
  auto& cache = std::get<KeyValueCache>(cut);
  std::vector<std::size_t> seen;
  for (std::size_t j = 0; j < held.positions.size(); ++j) {
    const double ahead = static_cast<double>(held.positions[j]) - position;
    if (ahead <= static_cast<double>(op.future) && (!op.window || ahead > -static_cast<double>(*op.window))) seen.push_back(j);
  }
  const auto keep = [&](Tensor& rows) {
    const Tensor all = rows;
    const auto width = static_cast<std::size_t>(all.width());
    rows.shape[0] = std::ssize(seen);
    rows.data.resize(seen.size() * width);
    for (std::size_t i = 0; i < seen.size(); ++i)
      std::copy_n(all.data.begin() + static_cast<std::ptrdiff_t>(seen[i] * width), width, rows.data.begin() + static_cast<std::ptrdiff_t>(i * width));
  };
  keep(cache.keys);
  keep(cache.values);
  cache.positions.resize(seen.size());
  std::iota(cache.positions.begin(), cache.positions.end(), 0);
  Stage all = stage;
  std::get<Attend>(all.operation).future = 0;
  std::get<Attend>(all.operation).window = std::nullopt;
  Tensor last({1});
  last.data[0] = static_cast<double>(seen.size());
  StageOperands other = operands;
  other.inputs[kAttendPositions] = &last;
  other.states[0] = &cut;
  std::vector<Tensor> result = run_stage(all, other, context);
  const std::size_t keys = held.positions.size() + 1;
  for (std::size_t o = 0; o < 2 && result[o].shape.back() > 0; ++o) {
    const std::size_t width = seen.size() + 1;
    const std::size_t heads = result[o].data.size() / width;
    std::vector<double> wide(heads * keys, o == 0 ? -std::numeric_limits<double>::infinity() : 0);
    for (std::size_t h = 0; h < heads; ++h) {
      for (std::size_t i = 0; i < seen.size(); ++i)
        wide[h * keys + seen[i]] = result[o].data[h * width + i];
      wide[h * keys + keys - 1] = result[o].data[h * width + width - 1];
    }
    result[o].data = std::move(wide);
    result[o].shape.back() = static_cast<std::int64_t>(keys);
  }
  (void)run_stage(stage, operands, context);  // the engine's own memory goes on, at the position that it has for the key
  held.positions.back() = static_cast<std::int64_t>(position);
  return result;
}

Computation shifted(std::size_t operand, Shift shift, double number) {
  return [=](const Stage& stage, const StageOperands& operands, const StageContext& context) {
    const double first = operands.inputs[operand]->data.empty() ? 0 : operands.inputs[operand]->data.front();
    if (first == 0) return run_stage(stage, operands, context);
    Tensor positions = *operands.inputs[operand];
    for (double& position : positions.data)
      position += shift(first, number);
    if (std::holds_alternative<Attend>(stage.operation) && positions.data.size() == 1)
      return sees_by_position(stage, operands, context, positions.data[0]);
    return run_with_input(stage, operands, context, operand, positions);
  };
}

Hypothesis about_positions(std::string field, std::string cause, FieldValue expected, FieldValue found, std::optional<Range> range, bool mask,
                           Shift shift) {
  Hypothesis hypothesis{.row = "36",
                        .field = std::move(field),
                        .cause = std::move(cause),
                        .expected = std::move(expected),
                        .found = std::move(found),
                        .range = std::move(range),
                        .apply =
                            [mask, shift](const BoundGraph& network, int index, double value, Patch& patch) {
                              const Stage& stage = stage_at(network, index);
                              const bool rope = std::holds_alternative<Rope>(stage.operation);
                              if (!rope && !(mask && std::holds_alternative<Attend>(stage.operation))) return false;
                              patch.computations[index] = shifted(rope ? kRopePositions : kAttendPositions, shift, std::round(value));
                              return true;
                            },
                        .later = true,
                        .rarity = mask ? 1 : 0.75};
  hypothesis.everywhere = true;
  return hypothesis;
}

}  // namespace

std::vector<Hypothesis> position_hypotheses(const BoundGraph& network, int index) {
  const Stage& stage = stage_at(network, index);
  const bool rope = std::holds_alternative<Rope>(stage.operation);
  if (!rope && !std::holds_alternative<Attend>(stage.operation)) return {};
  constexpr double kMost = 64;
  std::vector<Hypothesis> list;
  for (const bool mask : {false, true}) {
    if (!rope && !mask) continue;
    const std::string seen = mask ? ", for what a query sees too" : "";
    list.push_back(about_positions(mask ? "positions.anew" : "rope.positions", "positions begin anew with each pass" + seen,
                                   std::string("the sequence's"), std::string("the pass's"), std::nullopt, mask,
                                   [](double first, double) { return -first; }));
    list.push_back(about_positions(mask ? "positions.later_offset" : "rope.later_offset", "positions are shifted in the passes after the first" + seen,
                                   std::int64_t{0}, std::monostate{}, Range{-kMost, kMost, false, true, {1, -1, 2, -2}}, mask,
                                   [](double first, double number) { return std::max(number, -first); }));
  }
  return list;
}

}  // namespace plumb
