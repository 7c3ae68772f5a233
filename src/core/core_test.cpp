// Shapes, checked arithmetic, small floats and the thread pool.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <limits>
#include <new>
#include <thread>
#include <vector>

#include "core/checked.h"
#include "core/dtype.h"
#include "core/float_bits.h"
#include "core/shape.h"
#include "core/thread_pool.h"

namespace plumb {
namespace {

TEST(Checked, RefusesWhatDoesNotFit) {
  EXPECT_EQ(checked_mul<std::int64_t>(3, 5), 15);
  EXPECT_FALSE(checked_mul<std::int64_t>(std::int64_t{1} << 32, std::int64_t{1} << 32).has_value());
  EXPECT_FALSE(checked_add<std::uint64_t>(~std::uint64_t{0}, 1).has_value());
  EXPECT_FALSE((narrow<std::uint8_t>(256)).has_value());
  EXPECT_FALSE((narrow<std::uint64_t>(std::int64_t{-1})).has_value());
  EXPECT_EQ((narrow<std::uint8_t>(255)), 255);
}

TEST(Shape, CountsOrRefuses) {
  EXPECT_EQ(element_count({}), 1);
  EXPECT_EQ(element_count({2, 3, 5}), 30);
  EXPECT_FALSE(element_count({std::int64_t{1} << 31, std::int64_t{1} << 31, 4}).has_value());
  EXPECT_FALSE(element_count({2, -1}).has_value());
  EXPECT_EQ(to_string(Shape{2, 3}), "[2, 3]");
}

TEST(FloatBits, HalfRoundTripsEveryCode) {
  for (std::uint32_t code = 0; code < 0x10000U; ++code) {
    const float value = half_to_float(static_cast<std::uint16_t>(code));
    if (std::isnan(value)) continue;
    EXPECT_EQ(float_to_half(value), code);
  }
}

TEST(FloatBits, TiesGoToEven) {
  EXPECT_EQ(round_to_bfloat16(1.00390625F), 1.0F);       // halfway between 1 and 1 + 2^-7
  EXPECT_EQ(round_to_bfloat16(1.01171875F), 1.015625F);  // halfway between 1 + 2^-7 and 1 + 2^-6
  EXPECT_EQ(float_to_half(65519.0F), 0x7bffU);
  EXPECT_EQ(float_to_half(65520.0F), 0x7c00U);
  EXPECT_EQ(float_to_half(0x1p-25F), 0x0000U);  // halfway to the smallest subnormal
  EXPECT_TRUE(std::isnan(round_to_bfloat16(std::numeric_limits<float>::quiet_NaN())));
}

TEST(DType, NamesRoundTrip) {
  EXPECT_EQ(dtype_from_name("F8_E4M3"), DType::kF8E4M3);
  EXPECT_EQ(to_string(DType::kBF16), "BF16");
  EXPECT_FALSE(dtype_from_name("F12").has_value());
}

TEST(ThreadPool, CoversEveryRowOnce) {
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    for (const std::int64_t rows : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> seen(static_cast<std::size_t>(rows));
      pool.for_rows(rows, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row)
          ++seen[static_cast<std::size_t>(row)];
      });
      for (const auto& count : seen)
        EXPECT_EQ(count, 1);
    }
  }
}

// More threads than processors: some come late, when their call has ended or another has begun.
TEST(ThreadPool, CallsFollowEachOtherWhileSomeComeLate) {
  ThreadPool pool(16);
  for (int call = 0; call < 1000; ++call) {
    const int rows = 1 + call * 7919 % 37;
    std::vector<int> seen(static_cast<std::size_t>(rows));
    pool.for_rows(rows, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        std::this_thread::yield();
        seen[static_cast<std::size_t>(row)] += call + 1;
      }
    });
    ASSERT_EQ(seen, std::vector<int>(static_cast<std::size_t>(rows), call + 1)) << call;
  }
}

// The caller stays in the first piece that it takes until all other rows are done, those of its own share among them.
TEST(ThreadPool, OthersTakeTheRowsThatAThreadDoesNotComeTo) {
  for (const int threads : {2, 3}) {
    ThreadPool pool(threads);
    constexpr std::int64_t kRows = 101;
    std::atomic<std::int64_t> done = 0;
    pool.for_rows(kRows, [&](std::int64_t begin, std::int64_t end) {
      if (begin == 0) {
        EXPECT_LT(end, pool.begin_of(kRows, 1));
        while (done < kRows - end)
          std::this_thread::yield();
      }
      done += end - begin;
    });
    EXPECT_EQ(done, kRows);
  }
}

TEST(ThreadPool, SharesFollowEachOther) {
  const ThreadPool pool(3);
  EXPECT_EQ(pool.begin_of(8, 0), 0);
  EXPECT_EQ(pool.begin_of(8, 1), 3);
  EXPECT_EQ(pool.begin_of(8, 2), 6);
  EXPECT_EQ(pool.begin_of(8, 3), 8);
  EXPECT_EQ(pool.begin_of(2, 2), 2);
}

// It may be freed, or never have been: the next call is computed all the same.
TEST(ThreadPool, WhatIsAskedForAheadMayBeAnywhere) {
  ThreadPool pool(2);
  std::atomic<std::int64_t> sum = 0;
  for (int call = 0; call < 100; ++call) {
    pool.ask_ahead(1, reinterpret_cast<const void*>(std::uintptr_t{64} << call % 50), 1 << 20);
    std::this_thread::yield();
    pool.for_rows(10, [&](std::int64_t begin, std::int64_t end) { sum += end - begin; });
  }
  EXPECT_EQ(sum, 1000);
}

TEST(ThreadPool, WhatWorkThrowsReachesTheCallerOnceAllHaveStopped) {
  ThreadPool pool(4);
  const auto caller = std::this_thread::get_id();
  for (const bool by_caller : {true, false}) {
    for (int call = 0; call < 100; ++call) {
      std::atomic<bool> thrown = false;
      std::atomic<int> working = 0;
      const auto work = [&](std::int64_t, std::int64_t) {
        if ((std::this_thread::get_id() == caller) == by_caller) {
          thrown = true;
          throw std::bad_alloc();
        }
        ++working;
        while (!thrown)
          std::this_thread::yield();
        std::this_thread::sleep_for(std::chrono::microseconds(10));
        --working;
      };
      EXPECT_THROW(pool.for_rows(1000, work), std::bad_alloc);
      EXPECT_EQ(working, 0);
    }
    std::atomic<std::int64_t> rows = 0;
    pool.for_rows(1000, [&](std::int64_t begin, std::int64_t end) { rows += end - begin; });
    EXPECT_EQ(rows, 1000);
  }
}

}  // namespace
}  // namespace plumb
