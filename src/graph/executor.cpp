// Binding a graph's parameters to a checkpoint's weights.
#include "graph/executor.h"

#include <cmath>

#include "graph/print.h"

namespace plumb {
namespace {

// Ids from a file become indices, so each is checked before anything runs.
Status check_ids(const Param& param, const Weight& weight) {
  std::vector<double> row(static_cast<std::size_t>(weight.row_length()));
  for (std::int64_t r = 0; r < weight.rows(); ++r) {
    weight.read_row(r, row);
    for (const double id : row) {
      if (id >= 0 && id < static_cast<double>(*param.ids_below) && id == std::floor(id)) continue;
      return Error{ErrorCode::kCorrupt, "the tensor \"" + param.name + "\" holds " +
                                            std::to_string(id) + " in row " + std::to_string(r) +
                                            ", which is no id from 0 to " +
                                            std::to_string(*param.ids_below - 1)};
    }
  }
  return {};
}

}  // namespace

Result<BoundGraph> bind(Graph graph, WeightMap& map) {
  BoundGraph bound{.graph = std::move(graph), .weights = {}};
  bound.weights.reserve(bound.graph.params.size());
  for (const Param& param : bound.graph.params) {
    PLUMB_TRY(WeightPtr weight, map.take(param.name, param.shape));
    if (param.ids_below) PLUMB_TRY_STATUS(check_ids(param, *weight));
    bound.weights.push_back(std::move(weight));
  }
  PLUMB_TRY_STATUS(map.finish());
  return bound;
}

StateBytes bytes_of(const State& state, std::size_t element) {
  const StateSize numbers = size(state);
  return {.per_token = static_cast<std::uint64_t>(numbers.per_token) * element,
          .fixed = static_cast<std::uint64_t>(numbers.fixed) * element};
}

Result<std::vector<Tensor>> Executor::forward_batch(std::span<const BatchItem> items,
                                                    const ForwardOptions& options) const {
  std::vector<Tensor> all;
  for (const BatchItem& item : items) {
    PLUMB_TRY(Tensor logits, forward(*item.sequence, item.ids, options));
    all.push_back(std::move(logits));
  }
  return all;
}

}  // namespace plumb
