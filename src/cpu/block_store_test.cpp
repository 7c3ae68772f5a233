// Blocks of a cache out of shared slabs: zeroed when they are taken again, returned to the system when nobody holds one of a slab.
#include "cpu/block_store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace plumb::cpu {
namespace {

constexpr std::size_t kBytes = 100'032;
constexpr std::size_t kSlab = std::size_t{8} << 20;

using Block = std::shared_ptr<std::uint8_t>;

bool all_zero(const Block& block, std::size_t bytes) {
  return std::all_of(block.get(), block.get() + bytes, [](std::uint8_t byte) { return byte == 0; });
}

TEST(BlockStore, BlocksAreApartAlignedAndZeroed) {
  const BlockStore store;
  std::vector<Block> blocks;
  for (const std::size_t bytes : {kBytes, std::size_t{1}, kBytes + 1, std::size_t{64}, kBytes}) {
    blocks.push_back(store.take(bytes));
    ASSERT_EQ(reinterpret_cast<std::uintptr_t>(blocks.back().get()) % 64, 0U);
    ASSERT_TRUE(all_zero(blocks.back(), bytes));
    std::fill_n(blocks.back().get(), bytes, std::uint8_t{0xff});
  }
  EXPECT_EQ(store.mapped_bytes(), kSlab);
}

TEST(BlockStore, WhatIsGivenBackIsTakenAgainWithZeros) {
  const BlockStore store;
  const Block stays = store.take(kBytes);
  for (int i = 0; i < 1000; ++i) {
    const Block block = store.take(kBytes);
    ASSERT_TRUE(all_zero(block, kBytes)) << i;
    std::fill_n(block.get(), kBytes, std::uint8_t{0xff});
  }
  EXPECT_EQ(store.mapped_bytes(), kSlab);
}

TEST(BlockStore, OneSizeIsNotTakenForAnother) {
  const BlockStore store;
  const Block stays = store.take(64);
  std::uint8_t* small = store.take(64).get();
  const Block large = store.take(kBytes);
  EXPECT_NE(large.get(), small);
  EXPECT_EQ(store.take(64).get(), small);
}

TEST(BlockStore, SlabsWithoutBlocksAreReturned) {
  const BlockStore store;
  std::vector<Block> blocks;
  for (int i = 0; i < 200; ++i)
    blocks.push_back(store.take(kBytes));
  EXPECT_EQ(store.mapped_bytes(), 3 * kSlab);
  blocks.erase(blocks.begin() + 1, blocks.end());
  EXPECT_EQ(store.mapped_bytes(), kSlab);
  blocks.push_back(store.take(kBytes));  // none of those that lay in what is gone
  std::fill_n(blocks.back().get(), kBytes, std::uint8_t{1});
  EXPECT_EQ(store.mapped_bytes(), kSlab);
  blocks.clear();
  EXPECT_EQ(store.mapped_bytes(), 0U);
}

TEST(BlockStore, BlocksMayBeLargerThanASlabAndOutliveTheStore) {
  Block block;
  {
    const BlockStore store;
    block = store.take(kSlab + 1);
    EXPECT_GE(store.mapped_bytes(), kSlab + 1);
  }
  ASSERT_TRUE(all_zero(block, kSlab + 1));
  block.get()[kSlab] = 1;
}

}  // namespace
}  // namespace plumb::cpu
