// Which channel of one engine's tensor is which of another's: nothing but the values says so. A fused tensor holds ours as a
// range or a
// stride, heads or rotary pairs stand in another order, axes are swapped: all are one list of channels, found by content and
// put in words.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/shape.h"

namespace plumb {

// Rows of equal width, one after another.
struct Rows {
  std::span<const double> values;
  std::size_t width;

  std::size_t count() const { return width > 0 ? values.size() / width : 0; }
};

struct ChannelMap {
  std::vector<std::size_t> source;  // narrow channel c is wide channel source[c]; empty: channel c
  double distance = 0;              // of the rows under it: |wide - narrow| / |narrow|
};

// |wide under the map - narrow| / |narrow|, elements that are not finite or masked (-1e30 and below) on both sides left out.
double distance_under(const Rows& wide, const Rows& narrow, const std::vector<std::size_t>& source);

// The channels of `wide` that hold `narrow`'s, at most as many; both have the same rows. Tries ranges, strides, the axes in
// another order,
// then single channels by their values over the rows (4 rows at least). Nothing when no list brings the distance under `enough`.
std::optional<ChannelMap> find_channels(const Rows& wide, const Shape& wide_axes,
                                        const Rows& narrow, const Shape& narrow_axes,
                                        double enough);

// "channels 128 to 191 of 256"; `narrow_axes` tells heads from channels.
std::string describe_channels(const std::vector<std::size_t>& source, std::size_t wide_width,
                              const Shape& narrow_axes);

}  // namespace plumb
