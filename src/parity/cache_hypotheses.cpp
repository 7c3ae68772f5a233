// What an engine's cache of keys and values may hold otherwise in later passes: rows that are lost, not written, written elsewhere, or zeros.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "parity/computing.h"
#include "parity/more_hypotheses.h"

namespace plumb {
namespace {

bool attends(const Stage& stage) {
  return std::holds_alternative<Attend>(stage.operation);
}

// Attention in which the cache holds something else. It runs on a copy of the cache. `change` gets the cache before this pass and the pass's
// own keys and values.
using CacheChange =
    std::function<void(KeyValueCache& cache, Tensor& keys, Tensor& values, double number)>;

void drop_rows(KeyValueCache& cache, std::int64_t first, std::int64_t count) {
  const auto drop = [&](Tensor& held) {
    const auto width = held.width();
    held.data.erase(held.data.begin() + first * width, held.data.begin() + (first + count) * width);
    held.shape[0] -= count;
  };
  drop(cache.keys);
  drop(cache.values);
  cache.positions.erase(cache.positions.begin() + first, cache.positions.begin() + first + count);
}

// What the engine remembers is right and goes on, or is what it read.
enum class Memory : std::uint8_t { kGoesOn, kChanges };

Computation with_cache(CacheChange change, double number, Memory memory = Memory::kGoesOn) {
  return [change = std::move(change), number, memory](const Stage& stage, const StageOperands& operands,
                                              const StageContext& context) {
    const auto& cache = std::get<KeyValueCache>(*operands.states[0]);
    if (cache.positions.empty()) return run_stage(stage, operands, context);
    StateValue copy = cache;
    Tensor keys = *operands.inputs[1];
    Tensor values = *operands.inputs[2];
    change(std::get<KeyValueCache>(copy), keys, values, number);
    StageOperands other = operands;
    other.inputs[1] = &keys;
    other.inputs[2] = &values;
    other.states[0] = &copy;
    Outputs result = run_stage(stage, other, context);
    if (memory == Memory::kChanges)
      *operands.states[0] = std::move(copy);
    else
      (void)run_stage(stage, operands, context);
    return result;
  };
}

Hypothesis cached(std::string row, std::string field, std::string cause, FieldValue expected,
                  FieldValue found, std::optional<Range> range, CacheChange change) {
  Hypothesis hypothesis =
      computing({std::move(row), std::move(field), std::move(cause), std::move(expected), std::move(found)}, attends, {});
  hypothesis.range = std::move(range);
  hypothesis.apply = [change = std::move(change)](const BoundGraph& network, int index,
                                                  double value, Patch& patch) {
    if (!attends(stage_at(network, index))) return false;
    patch.computations[index] = with_cache(change, value);
    return true;
  };
  return hypothesis;
}

// The row of this pass takes the place of the one in `slot`, in every pass anew. The memory keeps rows in the order of their
// positions; columns are told in the order of the slots.
Outputs overwritten(const Stage& stage, const StageOperands& operands, const StageContext& context,
                    std::int64_t slot) {
  auto& cache = std::get<KeyValueCache>(*operands.states[0]);
  const auto held = static_cast<std::int64_t>(cache.positions.size());
  if (held == 0 || slot >= held || operands.inputs[1]->tokens() != 1)
    return run_stage(stage, operands, context);
  const bool again =
      cache.positions.back() >= held;  // one was lost before: its slot holds the last
  drop_rows(cache, again ? held - 1 : slot, 1);
  Outputs result = run_stage(stage, operands, context);
  for (std::size_t o = 0; o < 2; ++o) {
    const auto width = result[o].shape.back();
    for (auto row = result[o].data.begin(); width > slot && row != result[o].data.end();
         row += width)
      std::rotate(row + slot, row + width - 1, row + width);
  }
  return result;
}

// What a new token's slot holds where its key, its value or both are not written: what the slot before it holds, or zeros. Late: they are
// there in the next pass.
void write_hypotheses(std::vector<Hypothesis>& list) {
  for (const bool zeros : {false, true}) {
    for (const auto& [what, of_keys, of_values] :
         {std::tuple("key", true, true), std::tuple("key alone", true, false), std::tuple("value alone", false, true)}) {
      for (const bool late : {true, false}) {
        list.push_back(cached("46", zeros ? "cache.unwritten" : "cache.stale",
                              fmt::format("the new {} is {}: {}", of_keys ? "key" : "value", late ? "written a pass late" : "not written",
                                          zeros ? "its slot holds zeros" : "the slot before it counts twice"),
                              std::string("the query's own"), fmt::format("{}, {}", zeros ? "zeros" : "the one before", what), std::nullopt,
                              {}));
        list.back().rarity = of_keys == of_values ? 1 : 1.5;
        const auto change = [zeros, of_keys, of_values](KeyValueCache& cache, Tensor& keys, Tensor& values, double) {
          const auto last = cache.keys.tokens() - 1;
          const auto fill = [&](const Tensor& held, Tensor& rows) {
            for (std::int64_t t = 0; t < rows.tokens(); ++t) {
              if (zeros) std::ranges::fill(rows.row(t), 0.0);
              else std::ranges::copy(held.row(last), rows.row(t).begin());
            }
          };
          if (of_keys) fill(cache.keys, keys);
          if (of_values) fill(cache.values, values);
        };
        list.back().apply = [change, late](const BoundGraph& network, int index, double, Patch& patch) {
          if (!attends(stage_at(network, index))) return false;
          patch.computations[index] = with_cache(change, 0, late ? Memory::kGoesOn : Memory::kChanges);
          return true;
        };
      }
    }
  }
}

// Rows in the middle of the cache that are not what was written there.
void middle_hypotheses(std::vector<Hypothesis>& list) {
  for (const std::int64_t count : {1, 2, 4, 8, 16}) {
    for (const bool zeros : {true, false}) {
      list.push_back(cached("46", zeros ? "cache.zeroed" : "cache.middle_lost",
                            fmt::format("{} cached {} {}, from the place found on, counted from 1", count,
                                        count == 1 ? "key and its value" : "keys and values",
                                        zeros ? (count == 1 ? "is zeros" : "are zeros") : (count == 1 ? "is lost" : "are lost")),
                            std::monostate{}, count, Range{1, 1e6, false, true, {}},
                            [count, zeros](KeyValueCache& cache, Tensor&, Tensor&, double number) {
                              const auto held = static_cast<std::int64_t>(cache.positions.size());
                              const auto first = std::min(held, std::int64_t{std::llround(number)} - 1);
                              const auto rows = std::min(count, held - first);
                              if (!zeros) return drop_rows(cache, first, rows);
                              for (std::int64_t row = first; row < first + rows; ++row) {
                                std::ranges::fill(cache.keys.row(row), 0.0);
                                std::ranges::fill(cache.values.row(row), 0.0);
                              }
                            }));
      list.back().rarity = 3;
    }
  }
}

}  // namespace

std::vector<Hypothesis> cache_hypotheses() {
  std::vector<Hypothesis> list;
  const Range few{1, 64, false, true, {1, 2, 4, 8}};
  list.push_back(cached("46", "cache.first_lost", "the oldest cached keys are lost",
                        std::int64_t{0}, std::monostate{}, few,
                        [](KeyValueCache& cache, Tensor&, Tensor&, double number) {
                          const auto held = static_cast<std::int64_t>(cache.positions.size());
                          drop_rows(cache, 0, std::min(held, std::int64_t{std::llround(number)}));
                        }));
  list.push_back(cached("46", "cache.last_lost", "the newest cached keys are not there yet",
                        std::int64_t{0}, std::monostate{}, few,
                        [](KeyValueCache& cache, Tensor&, Tensor&, double number) {
                          const auto held = static_cast<std::int64_t>(cache.positions.size());
                          const auto lost = std::min(held, std::int64_t{std::llround(number)});
                          drop_rows(cache, held - lost, lost);
                        }));
  list.push_back(cached("46", "cache.slot", "a new key is written over the cached one in this slot",
                        std::monostate{}, std::monostate{}, Range{0, 63, false, true, {0, 1, 2}},
                        {}));
  list.back().apply = [](const BoundGraph& network, int index, double value, Patch& patch) {
    if (!attends(stage_at(network, index))) return false;
    patch.computations[index] = [slot = std::int64_t{std::llround(value)}](
                                    const Stage& stage, const StageOperands& operands,
                                    const StageContext& context) {
      return overwritten(stage, operands, context, slot);
    };
    return true;
  };
  write_hypotheses(list);
  middle_hypotheses(list);
  list.push_back(cached("46", "cache.own_lost",
                        "a query does not see its own key, which is not yet in the cache", true,
                        false, std::nullopt, {}));
  list.back().apply = [](const BoundGraph& network, int index, double, Patch& patch) {
    if (!attends(stage_at(network, index))) return false;
    patch.computations[index] = [](const Stage& stage, const StageOperands& operands,
                                   const StageContext& context) {
      const bool first = std::get<KeyValueCache>(*operands.states[0]).positions.empty();
      Stage other = stage;
      if (!first) std::get<Attend>(other.operation).future -= 1;
      return run_stage(other, operands, context);
    };
    return true;
  };
  const Range factor{1e-4, 1e4, true, false, {2, 0.5, 1.0 / 16, 16}};
  for (const bool both : {true, false}) {
    list.push_back(cached(
        "20d", both ? "cache.scale" : "cache.key_scale",
        both ? "cached keys and values miss their scale" : "cached keys miss their scale", 1.0,
        std::monostate{}, factor, [both](KeyValueCache& cache, Tensor&, Tensor&, double number) {
          for (double& value : cache.keys.data)
            value *= number;
          for (double& value : cache.values.data)
            value *= both ? number : 1;
        }));
  }
  for (Hypothesis& hypothesis : list)
    hypothesis.later = true;
  return list;
}

}  // namespace plumb
