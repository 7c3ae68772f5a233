// States before the first token, and how keys and values are laid down.
#include "cpu/state.h"

#include <algorithm>

namespace plumb::cpu {

void KeyValueBlocks::append(const float* keys, const float* values) {
  const std::int64_t slot = length_ % kKeyBlock;
  if (slot == 0) {
    const std::int64_t floats = kind_.heads * kKeyBlock * (kind_.key_dim + kind_.value_dim);
    blocks_.emplace_back(static_cast<std::size_t>(floats) * sizeof(float));
  }
  auto* block = reinterpret_cast<float*>(blocks_.back().data());
  for (std::int64_t h = 0; h < kind_.heads; ++h) {
    float* to = block + h * kind_.key_dim * kKeyBlock + slot;
    for (std::int64_t d = 0; d < kind_.key_dim; ++d)
      to[d * kKeyBlock] = keys[h * kind_.key_dim + d];
  }
  block += kind_.heads * kKeyBlock * kind_.key_dim;
  for (std::int64_t h = 0; h < kind_.heads; ++h) {
    std::copy_n(values + h * kind_.value_dim, kind_.value_dim,
                block + (h * kKeyBlock + slot) * kind_.value_dim);
  }
  ++length_;
}

void KeyValueBlocks::forget_before(std::int64_t position) {
  for (; (forgotten_ + 1) * kKeyBlock <= position && forgotten_ < blocks(); ++forgotten_)
    blocks_[static_cast<std::size_t>(forgotten_)] = Pages();
}

const float* KeyValueBlocks::keys(std::int64_t block, std::int64_t head) const {
  const Pages& pages = blocks_[static_cast<std::size_t>(block)];
  if (pages.data() == nullptr) return nullptr;
  return reinterpret_cast<const float*>(pages.data()) + head * kind_.key_dim * kKeyBlock;
}

const float* KeyValueBlocks::values(std::int64_t block, std::int64_t head) const {
  const Pages& pages = blocks_[static_cast<std::size_t>(block)];
  if (pages.data() == nullptr) return nullptr;
  return reinterpret_cast<const float*>(pages.data()) +
         kind_.heads * kKeyBlock * kind_.key_dim + head * kKeyBlock * kind_.value_dim;
}

StateValue empty_state(const State& state) {
  struct Empty {
    StateValue operator()(const KeyValueState& kind) const { return KeyValueBlocks(kind); }
    StateValue operator()(const ConvolutionState& kind) const {
      return ConvolutionRows{
          std::vector<float>(static_cast<std::size_t>((kind.taps - 1) * kind.channels))};
    }
    StateValue operator()(const RecurrentState& kind) const {
      return RecurrentMatrices{
          std::vector<float>(static_cast<std::size_t>(kind.heads * kind.key_dim * kind.value_dim))};
    }
    StateValue operator()(const WindowState& kind) const {
      return WindowRows{kind.width, kind.window, {}, 0};
    }
    StateValue operator()(const RemainderState& kind) const {
      return RemainderRows{kind.width, {}, {}, {}, {}};
    }
    StateValue operator()(const ListState& kind) const { return ListRows{kind.width, {}}; }
  };
  return std::visit(Empty(), state.kind);
}

}  // namespace plumb::cpu
