// Sums over rows in double.
#include "parity/measure.h"

#include <algorithm>
#include <cmath>

#include "core/float_bits.h"

namespace plumb {
namespace {

constexpr double kMasked = -1e30;

int fraction_bits(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return 8;
    case DType::kF16:
      return 11;
    case DType::kF32:
      return 24;
    default:
      return 53;
  }
}

double rounded(double value, DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return static_cast<double>(round_to_bfloat16(static_cast<float>(value)));
    case DType::kF16:
      return static_cast<double>(half_to_float(float_to_half(static_cast<float>(value))));
    case DType::kF32:
      return static_cast<double>(static_cast<float>(value));
    default:
      return value;
  }
}

// The sums of one row, and of all.
struct Sums {
  double error = 0;
  double norm = 0;
};

class Measurer {
 public:
  Measurer(DType narrower) : narrower_(narrower) {}

  void element(double a, double b, std::int64_t position, const Shape& axes, std::size_t index) {
    const bool a_masked = !std::isnan(a) && a <= kMasked;
    const bool b_masked = !std::isnan(b) && b <= kMasked;
    if (a_masked && b_masked) return;
    if (!std::isfinite(a) && !std::isfinite(b)) {
      ++m_.not_numbers;
      return;
    }
    ++m_.elements;
    if (!std::isfinite(a) || !std::isfinite(b) || a_masked || b_masked) {
      ++m_.broken;
      note(std::numeric_limits<double>::infinity(), a, b, position, axes, index);
      return;
    }
    if (a == b || rounded(a, narrower_) == rounded(b, narrower_)) ++equal_;
    const double difference = a - b;
    row_.error += difference * difference;
    row_.norm += b * b;
    dot_ += a * b;
    own_ += a * a;
    if (difference != 0) note(std::abs(difference), a, b, position, axes, index);
  }

  void end_row(std::int64_t position) {
    rows_.push_back(row_);
    positions_.push_back(position);
    row_ = {};
  }

  Measure finish() {
    double error = 0;
    double norm = 0;
    for (const Sums& row : rows_) {
      error += row.error;
      norm += row.norm;
    }
    const double mean = norm / static_cast<double>(std::max<std::size_t>(rows_.size(), 1));
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      const double scale = std::max(rows_[i].norm, mean);
      const double row =
          scale > 0 ? std::sqrt(rows_[i].error / scale) : (rows_[i].error > 0 ? 1 : 0);
      m_.row_errors.push_back(row);
      if (row <= m_.worst_row && i > 0) continue;
      m_.worst_row = row;
      m_.worst_position = positions_[i];
    }
    m_.positions = std::ssize(rows_);
    m_.relative_l2 = norm > 0 ? std::sqrt(error / norm) : (error > 0 ? 1 : 0);
    m_.cosine = norm > 0 && own_ > 0 ? dot_ / std::sqrt(norm * own_) : (norm == own_ ? 1 : 0);
    m_.bit_match =
        m_.elements > 0 ? static_cast<double>(equal_) / static_cast<double>(m_.elements) : 1;
    return std::move(m_);
  }

 private:
  void note(double size, double a, double b, std::int64_t position, const Shape& axes,
            std::size_t index) {
    if (m_.largest && size <= largest_) return;
    largest_ = size;
    LargestDifference place{.position = position, .index = {}, .a = a, .b = b};
    for (std::size_t i = axes.size(); i-- > 0;) {
      place.index.insert(place.index.begin(),
                         static_cast<std::int64_t>(index % static_cast<std::size_t>(axes[i])));
      index /= static_cast<std::size_t>(axes[i]);
    }
    m_.largest = std::move(place);
  }

  DType narrower_;
  Measure m_;
  Sums row_;
  std::vector<Sums> rows_;
  std::vector<std::int64_t> positions_;
  double dot_ = 0;
  double own_ = 0;
  double largest_ = 0;
  std::int64_t equal_ = 0;
};

// A row [heads, keys] by the position of each key, then by the number of each entry after the keys.
struct KeyedRow {
  std::int64_t heads;
  std::int64_t keys;
  std::int64_t extra;
  std::int64_t first;  // the position of key 0
};

KeyedRow keyed(const RowSet& set, std::size_t i) {
  const Shape& axes = set.channels[i];
  const std::int64_t all = axes.empty() ? 1 : axes.back();
  const std::int64_t extra = std::min(set.extra_keys[i], all);
  const std::int64_t keys = all - extra;
  // A cache that is longer than what was seen starts at position 0.
  return {.heads = static_cast<std::int64_t>(set.row(i).size()) / std::max<std::int64_t>(all, 1),
          .keys = keys,
          .extra = extra,
          .first = std::max<std::int64_t>(set.keys_end[i] - keys, 0)};
}

void measure_keys(const RowSet& a, const RowSet& b, std::size_t i, Measurer& to) {
  const KeyedRow left = keyed(a, i);
  const KeyedRow right = keyed(b, i);
  const std::int64_t shift = b.positions[i] - a.positions[i];
  const auto lefts = a.row(i);
  const auto rights = b.row(i);
  if (left.heads != right.heads) return;
  const auto masked = [](double value) { return value == 0 || value <= kMasked; };
  const auto pair = [&](const double* x, const double* y, std::int64_t head, std::int64_t key) {
    if (x != nullptr && y != nullptr)
      to.element(*x, *y, a.positions[i], {left.heads, std::max<std::int64_t>(key + 1, 1)},
                 static_cast<std::size_t>(head * (key + 1) + key));
    // What only one side holds is nothing where it is masked there.
    if (x != nullptr && y == nullptr && !masked(*x))
      to.element(*x, 0, a.positions[i], {left.heads, key + 1},
                 static_cast<std::size_t>(head * (key + 1) + key));
    if (x == nullptr && y != nullptr && !masked(*y))
      to.element(0, *y, a.positions[i], {left.heads, key + 1},
                 static_cast<std::size_t>(head * (key + 1) + key));
  };
  const std::int64_t first = std::min(left.first, right.first - shift);
  const std::int64_t last = std::max(left.first + left.keys, right.first - shift + right.keys);
  for (std::int64_t head = 0; head < left.heads; ++head) {
    const double* x = lefts.data() + head * (left.keys + left.extra);
    const double* y = rights.data() + head * (right.keys + right.extra);
    for (std::int64_t key = first; key < last; ++key) {
      const std::int64_t l = key - left.first;
      const std::int64_t r = key + shift - right.first;
      pair(l >= 0 && l < left.keys ? x + l : nullptr, r >= 0 && r < right.keys ? y + r : nullptr,
           head, std::max<std::int64_t>(key, 0));
    }
    for (std::int64_t entry = 0; entry < std::max(left.extra, right.extra); ++entry) {
      pair(entry < left.extra ? x + left.keys + entry : nullptr,
           entry < right.extra ? y + right.keys + entry : nullptr, head, last + entry);
    }
  }
}

}  // namespace

Measure measure(const RowSet& a, const RowSet& b, const std::vector<std::size_t>& source,
                bool a_is_wide, bool over_keys, const std::set<std::int64_t>& leave_out) {
  Measurer measurer(fraction_bits(a.dtype) < fraction_bits(b.dtype) ? a.dtype : b.dtype);
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (leave_out.contains(a.positions[i])) continue;
    const auto x = a.row(i);
    const auto y = b.row(i);
    if (over_keys) {
      measure_keys(a, b, i, measurer);
    } else {
      const std::size_t width = source.empty() ? std::min(x.size(), y.size()) : source.size();
      const Shape& axes = a_is_wide ? b.channels[i] : a.channels[i];
      for (std::size_t c = 0; c < width; ++c) {
        const std::size_t from = source.empty() ? c : source[c];
        measurer.element(a_is_wide ? x[from] : x[c], a_is_wide ? y[c] : y[from], a.positions[i],
                         axes, c);
      }
    }
    measurer.end_row(a.positions[i]);
  }
  return measurer.finish();
}

}  // namespace plumb
