// Sums over rows in double.
#include "parity/measure.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "core/float_bits.h"
#include "parity/residual.h"

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
  Measurer(DType narrower, double least) : narrower_(narrower), least_(least) {}

  void element(double a, double b, std::int64_t position, const Shape& axes, std::size_t index) {
    const bool a_masked = !std::isnan(a) && a <= least_;
    const bool b_masked = !std::isnan(b) && b <= least_;
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
    if (noted_) m_.largest = place_;
    m_.positions = std::ssize(rows_);
    m_.relative_l2 = norm > 0 ? std::sqrt(error / norm) : (error > 0 ? 1 : 0);
    m_.cosine = norm > 0 && own_ > 0 ? dot_ / std::sqrt(norm * own_) : (norm == own_ ? 1 : 0);
    m_.bit_match =
        m_.elements > 0 ? static_cast<double>(equal_) / static_cast<double>(m_.elements) : 1;
    return m_;
  }

 private:
  void note(double size, double a, double b, std::int64_t position, const Shape& axes,
            std::size_t index) {
    if (noted_ && size <= largest_) return;
    noted_ = true;
    largest_ = size;
    place_.position = position;
    place_.a = a;
    place_.b = b;
    place_.index.assign(axes.size(), 0);
    for (std::size_t i = axes.size(); i-- > 0;) {
      place_.index[i] = static_cast<std::int64_t>(index % static_cast<std::size_t>(axes[i]));
      index /= static_cast<std::size_t>(axes[i]);
    }
  }

  DType narrower_;
  double least_;  // values from here down are masked
  Measure m_;
  Sums row_;
  std::vector<Sums> rows_;
  std::vector<std::int64_t> positions_;
  double dot_ = 0;
  double own_ = 0;
  double largest_ = 0;
  bool noted_ = false;
  LargestDifference place_;
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

// Calls visit(x, y, key) for every key and entry that one side holds of head `left_head` of a and `right_head` of b, in row i;
// null where
// a side does not hold it.
template <class Visit>
void visit_keys(const RowSet& a, const RowSet& b, std::size_t i, std::int64_t left_head,
                std::int64_t right_head, Visit visit) {
  const KeyedRow left = keyed(a, i);
  const KeyedRow right = keyed(b, i);
  const std::int64_t shift = b.positions[i] - a.positions[i];
  const double* x = a.row(i).data() + left_head * (left.keys + left.extra);
  const double* y = b.row(i).data() + right_head * (right.keys + right.extra);
  const std::int64_t first = std::min(left.first, right.first - shift);
  const std::int64_t last = std::max(left.first + left.keys, right.first - shift + right.keys);
  for (std::int64_t key = first; key < last; ++key) {
    const std::int64_t l = key - left.first;
    const std::int64_t r = key + shift - right.first;
    visit(l >= 0 && l < left.keys ? x + l : nullptr, r >= 0 && r < right.keys ? y + r : nullptr,
          std::max<std::int64_t>(key, 0));
  }
  for (std::int64_t entry = 0; entry < std::max(left.extra, right.extra); ++entry) {
    visit(entry < left.extra ? x + left.keys + entry : nullptr,
          entry < right.extra ? y + right.keys + entry : nullptr,
          std::max<std::int64_t>(last, 0) + entry);
  }
}

bool nothing_there(double value) {
  return value == 0 || value <= kMaskedScore;
}

void measure_keys(const RowSet& a, const RowSet& b, std::size_t i,
                  const std::vector<std::size_t>& heads, Measurer& to) {
  const std::int64_t count = keyed(b, i).heads;
  if (keyed(a, i).heads != count) return;
  for (std::int64_t head = 0; head < count; ++head) {
    const auto from =
        heads.empty() ? head : static_cast<std::int64_t>(heads[static_cast<std::size_t>(head)]);
    visit_keys(a, b, i, from, head, [&](const double* x, const double* y, std::int64_t key) {
      // What only one side holds is nothing where it is masked there.
      if (x == nullptr && (y == nullptr || nothing_there(*y))) return;
      if (y == nullptr && nothing_there(*x)) return;
      to.element(x != nullptr ? *x : 0, y != nullptr ? *y : 0, a.positions[i], {count, key + 1},
                 static_cast<std::size_t>(head * (key + 1) + key));
    });
  }
}

}  // namespace

std::optional<std::vector<std::size_t>> match_heads(const RowSet& a, const RowSet& b) {
  constexpr std::int64_t kMostHeads = 128;
  if (a.size() == 0 || a.size() != b.size()) return std::nullopt;
  const std::int64_t heads = keyed(b, 0).heads;
  if (heads < 2 || heads > kMostHeads) return std::nullopt;
  std::vector<std::vector<double>> distances(
      static_cast<std::size_t>(heads), std::vector<double>(static_cast<std::size_t>(heads), 0));
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (keyed(a, i).heads != heads || keyed(b, i).heads != heads) return std::nullopt;
    for (std::int64_t mine = 0; mine < heads; ++mine) {
      for (std::int64_t theirs = 0; theirs < heads; ++theirs) {
        double& sum = distances[static_cast<std::size_t>(theirs)][static_cast<std::size_t>(mine)];
        visit_keys(a, b, i, mine, theirs, [&](const double* x, const double* y, std::int64_t) {
          const double l = x != nullptr && std::isfinite(*x) && *x > kMaskedScore ? *x : 0;
          const double r = y != nullptr && std::isfinite(*y) && *y > kMaskedScore ? *y : 0;
          sum += (l - r) * (l - r);
        });
      }
    }
  }
  std::vector<std::size_t> order;
  std::set<std::size_t> taken;
  for (const auto& row : distances) {
    const auto nearest =
        static_cast<std::size_t>(std::min_element(row.begin(), row.end()) - row.begin());
    if (!taken.insert(nearest).second) return std::nullopt;
    order.push_back(nearest);
  }
  return order;
}

Measure measure(const RowSet& a, const RowSet& b, const std::vector<std::size_t>& source,
                bool a_is_wide, bool over_keys, const std::set<std::int64_t>& leave_out) {
  Measurer measurer(fraction_bits(a.dtype) < fraction_bits(b.dtype) ? a.dtype : b.dtype,
                    over_keys ? kMaskedScore : kMasked);
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (leave_out.contains(a.positions[i])) continue;
    const auto x = a.row(i);
    const auto y = b.row(i);
    if (over_keys) {
      measure_keys(a, b, i, source, measurer);
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
