// AMX: products of tiles of 16 rows of 64 bytes. Four sums of two tiles by two, as a matrix product would hold them.
#include <immintrin.h>

#include "machine/kernels/kernels.h"

namespace plumb::machine {
namespace {

constexpr int kTiles = 8;
constexpr double kInt8Operations = 2.0 * 16 * 16 * 64;
constexpr double kBf16Operations = 2.0 * 16 * 16 * 32;
constexpr int kProducts = 4;  // of one iteration

struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t bytes_per_row[16] = {};
  std::uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

void configure() {
  TileConfig config;
  for (int t = 0; t < kTiles; ++t) {
    config.bytes_per_row[t] = 64;
    config.rows[t] = 16;
  }
  // GCC 12 believes that _tile_loadconfig reads 8 of the 64 bytes, and drops the stores to the others.
  asm volatile("" ::"r"(&config) : "memory");
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
}

void run_int8(std::int64_t iterations) {
  configure();
  for (std::int64_t i = 0; i < iterations; ++i) {
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 7);
    _tile_dpbssd(2, 5, 6);
    _tile_dpbssd(3, 5, 7);
  }
  _tile_release();
}

void run_bf16(std::int64_t iterations) {
  configure();
  for (std::int64_t i = 0; i < iterations; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
}

}  // namespace

const Kernels kAmx = {.name = "amx",
                      .fp32 = {},
                      .bf16 = {run_bf16, kProducts* kBf16Operations},
                      .int8 = {run_int8, kProducts* kInt8Operations},
                      .read_plain = nullptr,
                      .read_streams = nullptr};

}  // namespace plumb::machine
