// States before the first token, and how keys and values are laid down.
#include "cpu/state.h"

#include <algorithm>
#include <string>

#include "cpu/cache_type.h"

namespace plumb::cpu {

std::string_view to_string(CacheType type) {
  constexpr std::string_view kNames[] = {"f32", "f16", "bf16", "q8_0", "int16"};
  return kNames[static_cast<std::size_t>(type)];
}

Result<CacheType> cache_type_from_name(std::string_view name) {
  for (const CacheType type : {CacheType::kF32, CacheType::kF16, CacheType::kBF16, CacheType::kQ8_0}) {
    if (to_string(type) == name) return type;
  }
  return Error{ErrorCode::kInvalidArgument, "the cache type \"" + std::string(name) +
                                                "\" is not known; known are f32, f16, bf16 and q8_0"};
}

namespace {

// All heads' keys and values of kKeyBlock positions.
std::int64_t bytes_of_block(const KeyValueState& kind, CacheType type) {
  return kind.heads * (cache_block_bytes(type, kind.key_dim) + cache_block_bytes(type, kind.value_dim));
}

}  // namespace

KeyValueBlocks::KeyValueBlocks(const KeyValueBlocks& other)
    : kind_(other.kind_),
      type_(other.type_),
      store_(other.store_),
      blocks_(other.blocks_),
      length_(other.length_),
      forgotten_(other.forgotten_) {
  if (length_ % kKeyBlock == 0 || blocks_.back() == nullptr) return;
  blocks_.back() = store_.take(block_bytes());
  std::copy_n(other.blocks_.back().get(), block_bytes(), blocks_.back().get());
}

std::size_t KeyValueBlocks::block_bytes() const {
  return static_cast<std::size_t>(bytes_of_block(kind_, type_));
}

void KeyValueBlocks::grow(std::int64_t count) {
  length_ += count;
  while (blocks() * kKeyBlock < length_)
    blocks_.push_back(store_.take(block_bytes()));
}

void KeyValueBlocks::keep(const Kernels& kernels, std::int64_t position, std::int64_t head, const float* key_row,
                          const float* value_row) {
  const std::int64_t block = position / kKeyBlock;
  const std::int64_t slot = position % kKeyBlock;
  kernels.keep({.type = type_,
                .x = key_row,
                .dim = kind_.key_dim,
                .slot = slot,
                .by_channel = true,
                .block = keys(block, head)});
  kernels.keep({.type = type_,
                .x = value_row,
                .dim = kind_.value_dim,
                .slot = slot,
                .by_channel = false,
                .block = values(block, head)});
}

void KeyValueBlocks::ask_for(std::int64_t position, std::int64_t head) const {
  const auto ask = [](const std::uint8_t* from, std::int64_t bytes) {
    for (std::int64_t at = 0; at < bytes; at += 64)
      __builtin_prefetch(from + at, 1, 2);
  };
  const std::int64_t block = position / kKeyBlock;
  ask(keys(block, head), cache_block_bytes(type_, kind_.key_dim));  // by channel: each has all positions
  ask(values(block, head), cache_block_bytes(type_, kind_.value_dim) * (position % kKeyBlock + 1) / kKeyBlock);
}

void KeyValueBlocks::forget_before(std::int64_t position) {
  for (; (forgotten_ + 1) * kKeyBlock <= position && forgotten_ < blocks(); ++forgotten_)
    blocks_[static_cast<std::size_t>(forgotten_)] = nullptr;
}

std::uint8_t* KeyValueBlocks::keys(std::int64_t block, std::int64_t head) const {
  std::uint8_t* data = blocks_[static_cast<std::size_t>(block)].get();
  return data == nullptr ? nullptr : data + head * cache_block_bytes(type_, kind_.key_dim);
}

std::uint8_t* KeyValueBlocks::values(std::int64_t block, std::int64_t head) const {
  std::uint8_t* data = blocks_[static_cast<std::size_t>(block)].get();
  if (data == nullptr) return nullptr;
  return data + kind_.heads * cache_block_bytes(type_, kind_.key_dim) + head * cache_block_bytes(type_, kind_.value_dim);
}

StateValue empty_state(const State& state, CacheType type, const BlockStore& store) {
  struct Empty {
    CacheType type;
    const BlockStore& store;
    StateValue operator()(const KeyValueState& kind) const { return KeyValueBlocks(kind, type, store); }
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
  return std::visit(Empty{type, store}, state.kind);
}

StateBytes bytes_of(const State& state, CacheType type) {
  if (const auto* kept = std::get_if<KeyValueState>(&state.kind)) {
    return {.per_token = static_cast<std::uint64_t>(bytes_of_block(*kept, type) / kKeyBlock), .fixed = 0};
  }
  return bytes_of(state, sizeof(float));
}

}  // namespace plumb::cpu
