#include "parity/weighted_values.h"

#include <algorithm>

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

}  // namespace plumb
