// Code books of GGUF's i-quants. Each entry packs the codes of neighbouring elements, the first code lowest.
#pragma once
#include <array>
#include <cstdint>

namespace plumb {

extern const std::array<std::uint16_t, 256> kIq2XxsGrid;
extern const std::array<std::uint16_t, 512> kIq2XsGrid;
extern const std::array<std::uint16_t, 1024> kIq2SGrid;
extern const std::array<std::uint16_t, 256> kIq3XxsGrid;
extern const std::array<std::uint16_t, 512> kIq3SGrid;
extern const std::array<std::uint16_t, 2048> kIq1Grid;

}  // namespace plumb
