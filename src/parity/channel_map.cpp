// Candidates in the order of their plainness; the first that is good enough wins, and the best of those that are not.
#include "parity/channel_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace plumb {
namespace {

constexpr double kMasked = -1e30;

bool usable(double value) {
  return std::isfinite(value) && value > kMasked;
}

using List = std::vector<std::size_t>;

List range(std::size_t first, std::size_t count, std::size_t stride) {
  List list(count);
  for (std::size_t i = 0; i < count; ++i)
    list[i] = first + i * stride;
  return list;
}

// Channel lists of the same width under every other order of the axes.
std::vector<List> axis_orders(const Shape& axes) {
  std::vector<List> lists;
  if (axes.size() < 2 || axes.size() > 4) return lists;
  std::vector<std::size_t> order(axes.size());
  std::iota(order.begin(), order.end(), 0);
  std::vector<std::size_t> strides(axes.size(), 1);
  for (std::size_t i = axes.size(); i-- > 1;)
    strides[i - 1] = strides[i] * static_cast<std::size_t>(axes[i]);
  while (std::next_permutation(order.begin(), order.end())) {
    List list{0};
    for (const std::size_t axis : order) {
      List next;
      for (const std::size_t base : list) {
        for (std::int64_t i = 0; i < axes[axis]; ++i)
          next.push_back(base + static_cast<std::size_t>(i) * strides[axis]);
      }
      list = std::move(next);
    }
    lists.push_back(std::move(list));
  }
  return lists;
}

// Each narrow channel's nearest wide one, no wide channel twice. Rows are few: a channel's values over them are its name.
std::optional<List> by_values(const Rows& wide, const Rows& narrow) {
  constexpr std::size_t kLeastRows = 4;
  constexpr std::size_t kMostRows = 24;
  constexpr double kMostWork = 4e8;
  const std::size_t rows = std::min(narrow.count(), kMostRows);
  if (rows < kLeastRows) return std::nullopt;
  if (static_cast<double>(rows) * static_cast<double>(wide.width) *
          static_cast<double>(narrow.width) >
      kMostWork)
    return std::nullopt;
  const auto columns = [&](const Rows& from) {
    std::vector<float> out(from.width * rows);
    for (std::size_t r = 0; r < rows; ++r) {
      const std::size_t at = r * from.count() / rows;
      for (std::size_t c = 0; c < from.width; ++c) {
        const double value = from.values[at * from.width + c];
        out[c * rows + r] = usable(value) ? static_cast<float>(value) : 0.F;
      }
    }
    return out;
  };
  const std::vector<float> left = columns(wide);
  const std::vector<float> right = columns(narrow);
  List list(narrow.width);
  std::vector<bool> taken(wide.width, false);
  for (std::size_t c = 0; c < narrow.width; ++c) {
    float best = std::numeric_limits<float>::infinity();
    std::size_t found = wide.width;
    const auto consider = [&](std::size_t w) {
      if (taken[w]) return;
      float distance = 0;
      for (std::size_t r = 0; r < rows; ++r) {
        const float difference = left[w * rows + r] - right[c * rows + r];
        distance += difference * difference;
      }
      if (!(distance < best)) return;
      best = distance;
      found = w;
    };
    if (c < wide.width) consider(c);
    for (std::size_t w = 0; w < wide.width && best > 0; ++w)
      consider(w);
    if (found == wide.width) return std::nullopt;
    list[c] = found;
    taken[found] = true;
  }
  return list;
}

bool is_range(const List& list, std::size_t& stride) {
  stride = list.size() > 1 ? list[1] - list[0] : 1;
  for (std::size_t i = 1; i < list.size(); ++i) {
    if (list[i] - list[i - 1] != stride) return false;
  }
  return true;
}

std::string numbers(const List& list) {
  constexpr std::size_t kMost = 16;
  std::string text;
  for (std::size_t i = 0; i < std::min(list.size(), kMost); ++i)
    text += (i > 0 ? ", " : "") + std::to_string(list[i]);
  return text + (list.size() > kMost ? ", …" : "");
}

// Whole heads of `dim` channels in another order; nothing when heads are not kept whole.
std::optional<List> head_order(const List& list, std::size_t dim) {
  List order;
  for (std::size_t c = 0; c < list.size(); c += dim) {
    if (list[c] % dim != 0) return std::nullopt;
    for (std::size_t i = 1; i < dim; ++i) {
      if (list[c + i] != list[c] + i) return std::nullopt;
    }
    order.push_back(list[c] / dim);
  }
  return order;
}

// The same order of channels within every head of `dim`; nothing when channels leave their head or heads differ.
std::optional<List> order_within(const List& list, std::size_t dim) {
  List order;
  for (std::size_t i = 0; i < dim; ++i) {
    if (list[i] >= dim) return std::nullopt;
    order.push_back(list[i]);
  }
  for (std::size_t c = dim; c < list.size(); ++c) {
    if (list[c] != c / dim * dim + order[c % dim]) return std::nullopt;
  }
  return order;
}

std::optional<std::string> rotary_words(const List& order) {
  const std::size_t half = order.size() / 2;
  if (order.size() % 2 != 0 || half < 2) return std::nullopt;
  bool pairs = true;   // ours is half-split, theirs neighbouring
  bool halves = true;  // the other way round
  for (std::size_t i = 0; i < order.size(); ++i) {
    pairs = pairs && order[i] == (i < half ? 2 * i : 2 * (i - half) + 1);
    halves = halves && order[i] == (i % 2 == 0 ? i / 2 : half + i / 2);
  }
  if (pairs) return "neighbouring channels are the rotary pairs, where the other side has halves";
  if (halves) return "halves are the rotary pairs, where the other side has neighbouring channels";
  return std::nullopt;
}

}  // namespace

double distance_under(const Rows& wide, const Rows& narrow,
                      const std::vector<std::size_t>& source) {
  double error = 0;
  double norm = 0;
  for (std::size_t r = 0; r < narrow.count(); ++r) {
    for (std::size_t c = 0; c < narrow.width; ++c) {
      const double ours = narrow.values[r * narrow.width + c];
      const double theirs = wide.values[r * wide.width + (source.empty() ? c : source[c])];
      if (!usable(ours) && !usable(theirs)) continue;
      if (!usable(ours) || !usable(theirs)) {
        error += usable(ours) ? ours * ours + 1 : theirs * theirs + 1;
        continue;
      }
      error += (theirs - ours) * (theirs - ours);
      norm += ours * ours;
    }
  }
  return norm > 0 ? std::sqrt(error / norm)
                  : (error > 0 ? std::numeric_limits<double>::infinity() : 0);
}

std::optional<ChannelMap> find_channels(const Rows& wide, const Shape& wide_axes,
                                        const Rows& narrow, const Shape& narrow_axes,
                                        double enough) {
  if (narrow.width == 0 || wide.width < narrow.width || wide.count() != narrow.count())
    return std::nullopt;
  ChannelMap best{.source = {}, .distance = std::numeric_limits<double>::infinity()};
  const auto consider = [&](List list) {
    const double distance = distance_under(wide, narrow, list);
    // A hair better is no reason to leave the plainer list.
    if (!(distance < 0.9 * best.distance)) return;
    best = {.source = std::move(list), .distance = distance};
  };
  if (wide.width == narrow.width) {
    consider({});
    for (List& list : axis_orders(wide_axes))
      consider(std::move(list));
    // Ours may have the axes, theirs be flat: the inverse orders.
    for (const List& list : axis_orders(narrow_axes)) {
      List inverse(list.size());
      for (std::size_t i = 0; i < list.size(); ++i)
        inverse[list[i]] = i;
      consider(std::move(inverse));
    }
  } else {
    const std::size_t step = std::gcd(wide.width, narrow.width);
    for (std::size_t first = 0; first + narrow.width <= wide.width; first += step)
      consider(range(first, narrow.width, 1));
    if (wide.width % narrow.width == 0) {
      const std::size_t stride = wide.width / narrow.width;
      for (std::size_t phase = 0; phase < stride; ++phase)
        consider(range(phase, narrow.width, stride));
    }
  }
  constexpr double kPlain = 0.02;  // a plain list this near needs no other
  if (best.distance > std::min(enough, kPlain)) {
    if (auto list = by_values(wide, narrow)) consider(std::move(*list));
  }
  if (!(best.distance <= enough)) return std::nullopt;
  if (wide.width == narrow.width && std::is_sorted(best.source.begin(), best.source.end()))
    best.source.clear();
  return best;
}

std::string describe_channels(const std::vector<std::size_t>& source, std::size_t wide_width,
                              const Shape& narrow_axes) {
  if (source.empty()) return "the same channels";
  const std::size_t width = source.size();
  std::size_t stride = 1;
  if (is_range(source, stride) && stride == 1)
    return fmt::format("channels {} to {} of {}", source.front(), source.back(), wide_width);
  if (is_range(source, stride)) {
    if (stride > wide_width) return fmt::format("the {} channels in reverse order", width);
    return fmt::format("interleaved: every {} channel of {} from {}",
                       stride == 2 ? "second" : fmt::format("{}th", stride), wide_width,
                       source.front());
  }
  const std::size_t dim = narrow_axes.size() > 1 ? static_cast<std::size_t>(narrow_axes.back()) : 0;
  if (wide_width == width) {
    // Two axes exchanged: channel i * columns + j is j * rows + i.
    for (std::size_t rows = 2; rows < width; ++rows) {
      if (width % rows != 0) continue;
      const std::size_t columns = width / rows;
      bool swapped = true;
      for (std::size_t c = 0; c < width && swapped; ++c)
        swapped = source[c] == c % columns * rows + c / columns;
      // A rotary pairing is the same list over one head's channels: what the shape says comes first.
      if (swapped && (dim == 0 || dim == columns || dim == width))
        return fmt::format("its axes [{}, {}] in the other order", columns, rows);
    }
  }
  List dims;
  if (dim > 1) dims.push_back(dim);
  for (std::size_t d = width / 2; d > 1; --d) {
    if (width % d == 0 && d != dim) dims.push_back(d);
  }
  for (const std::size_t d : dims) {
    if (wide_width != width) break;
    if (const auto order = head_order(source, d))
      return fmt::format("heads of {} in the order {}", d, numbers(*order));
  }
  for (const std::size_t d : dims) {
    if (wide_width != width) break;
    const auto order = order_within(source, d);
    if (!order) continue;
    if (const auto words = rotary_words(*order))
      return fmt::format("within each head of {}, {}", d, *words);
  }
  for (const std::size_t d : dims) {
    if (wide_width != width) break;
    if (const auto order = order_within(source, d))
      return fmt::format("within each head of {}, channels in the order {}", d, numbers(*order));
  }
  // Taken from every group of a fused tensor: runs of equal length at equal distances.
  std::size_t run = 1;
  while (run < width && source[run] == source[run - 1] + 1)
    ++run;
  if (run < width && width % run == 0) {
    const std::size_t groups = width / run;
    const std::size_t group = source[run] - source[0];
    bool grouped = group <= wide_width && wide_width == group * groups;
    for (std::size_t c = 0; c < width && grouped; ++c)
      grouped = source[c] == source[0] + c / run * group + c % run;
    if (grouped)
      return fmt::format("of each group of {} channels, those from {} to {}", group, source[0],
                         source[0] + run - 1);
  }
  return fmt::format("{} of {} channels in an order of their own: {}", width, wide_width,
                     numbers(source));
}

}  // namespace plumb
