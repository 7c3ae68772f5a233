#include "parity/weighted_values.h"

#include <algorithm>
#include <cmath>
#include <span>

namespace plumb {

void weigh_again(const Stage& stage, const StageOperands& operands, std::vector<Tensor>& outputs, const std::vector<bool>& changed) {
  const auto& cache = std::get<KeyValueCache>(*operands.states[0]);
  const bool tiled = std::get<Attend>(stage.operation).groups == HeadGroups::kTile;
  const auto heads = static_cast<std::size_t>(operands.inputs[0]->shape[1]);
  const auto kv_heads = static_cast<std::size_t>(cache.values.shape[1]);
  const auto width = static_cast<std::size_t>(cache.values.shape[2]);
  const auto keys = static_cast<std::size_t>(cache.values.shape[0]);
  for (std::size_t row = 0; row < changed.size(); ++row) {
    if (!changed[row]) continue;
    const std::size_t head = row % heads;
    const std::size_t kv = tiled ? head % kv_heads : head / (heads / kv_heads);
    const double* probs = outputs[1].data.data() + row * keys;
    double* context = outputs[2].data.data() + row * width;
    std::fill_n(context, width, 0.0);
    for (std::size_t j = 0; j < keys; ++j) {
      if (probs[j] == 0) continue;
      const double* value = cache.values.data.data() + (j * kv_heads + kv) * width;
      for (std::size_t d = 0; d < width; ++d)
        context[d] += probs[j] * value[d];
    }
  }
}

void take_softmax_again(const Stage& stage, const StageOperands& operands, std::vector<Tensor>& outputs, const Tensor& before) {
  const auto keys = static_cast<std::size_t>(before.shape.back());
  const std::size_t rows = keys > 0 ? before.data.size() / keys : 0;
  std::vector<bool> changed(rows, false);
  for (std::size_t row = 0; row < rows; ++row) {
    const auto old = std::span(before.data).subspan(row * keys, keys);
    const auto now = std::span(outputs[0].data).subspan(row * keys, keys);
    const auto probs = std::span(outputs[1].data).subspan(row * keys, keys);
    if (std::ranges::equal(old, now)) continue;
    changed[row] = true;
    const double largest = std::max(*std::ranges::max_element(old), *std::ranges::max_element(now));
    const auto sum = [&](std::span<const double> scores) {
      double total = 0;
      for (const double score : scores)
        total += std::exp(score - largest);
      return total;
    };
    const auto known = std::ranges::max_element(probs) - probs.begin();
    const double whole = probs[static_cast<std::size_t>(known)] > 0
                             ? std::exp(old[static_cast<std::size_t>(known)] - largest) / probs[static_cast<std::size_t>(known)]
                             : 0;
    const double keys_before = sum(old);
    constexpr double kNoSink = 1e-9;  // what rounding leaves of a difference
    const double sink = whole - keys_before > kNoSink * whole ? whole - keys_before : 0;
    const double total = sum(now) + sink;
    for (std::size_t j = 0; j < keys; ++j)
      probs[j] = std::exp(now[j] - largest) / total;
  }
  weigh_again(stage, operands, outputs, changed);
}

}  // namespace plumb
