// Weights in another order, or through a function.
#include "io/weight_orders.h"

#include <array>
#include <cmath>
#include <functional>
#include <mutex>
#include <utility>

#include "core/checked.h"

namespace plumb {
namespace {

// Index of a row, or an element, of the base for one of the view.
using Order = std::function<std::int64_t(std::int64_t)>;

Error misfit(const Weight& base, const std::string& what) {
  return {ErrorCode::kCorrupt, "a tensor of shape " + to_string(base.shape()) + " " + what};
}

// Of `shape`; what lies under index i of the first axis is what the base has under order(i).
class OrderedView final : public Weight {
 public:
  OrderedView(WeightPtr base, Shape shape, Order order)
      : base_(std::move(base)), shape_(std::move(shape)), order_(std::move(order)) {
    for (std::size_t i = 1; i + 1 < shape_.size(); ++i)
      group_ *= shape_[i];
  }

  const Shape& shape() const override { return shape_; }

  std::optional<DType> stored_dtype() const override {
    return shape_.size() > 1 ? base_->stored_dtype() : std::nullopt;
  }
  std::span<const std::byte> stored_row(std::int64_t row) const override {
    return base_->stored_row(source(row));
  }
  std::optional<ScaledForm> scaled_form() const override { return base_->scaled_form(); }
  ScaledRow scaled_row(std::int64_t row) const override { return base_->scaled_row(source(row)); }
  bool has_integers() const override { return base_->has_integers(); }
  void read_integers(std::int64_t row, std::span<std::int8_t> codes, std::span<float> scales, std::span<float> offsets) const override {
    base_->read_integers(source(row), codes, scales, offsets);
  }
  std::optional<DType> element_type() const override { return base_->element_type(); }
  void release() const override { base_->release(); }

  void read_row(std::int64_t row, std::span<double> out) const override {
    if (shape_.size() > 1) return base_->read_row(source(row), out);
    std::vector<double> all(static_cast<std::size_t>(base_->row_length()));
    base_->read_row(0, all);
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = all[static_cast<std::size_t>(order_(static_cast<std::int64_t>(i)))];
  }

  std::string format() const override { return base_->format(); }
  std::uint64_t stored_bytes() const override {
    const auto all = static_cast<std::uint64_t>(base_->shape()[0]);
    return all == 0 ? 0 : base_->stored_bytes() / all * static_cast<std::uint64_t>(shape_[0]);
  }

 private:
  std::int64_t source(std::int64_t row) const {
    return order_(row / group_) * group_ + row % group_;
  }

  WeightPtr base_;
  Shape shape_;
  Order order_;
  std::int64_t group_ = 1;  // rows of the base for each index of the first axis
};

class OrderedColumnsView final : public Weight {
 public:
  OrderedColumnsView(WeightPtr base, Order order)
      : base_(std::move(base)), order_(std::move(order)) {}

  const Shape& shape() const override { return base_->shape(); }
  void read_row(std::int64_t row, std::span<double> out) const override {
    std::vector<double> all(out.size());
    base_->read_row(row, all);
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = all[static_cast<std::size_t>(order_(static_cast<std::int64_t>(i)))];
  }
  std::string format() const override { return base_->format() + " in another order of columns"; }
  std::uint64_t stored_bytes() const override { return base_->stored_bytes(); }

 private:
  WeightPtr base_;
  Order order_;
};

class JoinedRunsView final : public Weight {
 public:
  JoinedRunsView(std::vector<RunPart> parts, std::int64_t groups) : parts_(std::move(parts)) {
    for (const RunPart& part : parts_)
      run_ += part.rows;
    shape_ = {groups * run_, parts_.front().weight->row_length()};
  }

  const Shape& shape() const override { return shape_; }

  std::optional<DType> stored_dtype() const override {
    const auto dtype = parts_.front().weight->stored_dtype();
    for (const RunPart& part : parts_) {
      if (part.weight->stored_dtype() != dtype) return std::nullopt;
    }
    return dtype;
  }
  std::span<const std::byte> stored_row(std::int64_t row) const override {
    const auto [part, at] = source(row);
    return part->stored_row(at);
  }
  std::optional<ScaledForm> scaled_form() const override {
    const auto form = parts_.front().weight->scaled_form();
    for (const RunPart& part : parts_) {
      if (part.weight->scaled_form() != form) return std::nullopt;
    }
    return form;
  }
  ScaledRow scaled_row(std::int64_t row) const override {
    const auto [part, at] = source(row);
    return part->scaled_row(at);
  }
  std::optional<DType> element_type() const override {
    const auto type = parts_.front().weight->element_type();
    for (const RunPart& part : parts_) {
      if (part.weight->element_type() != type) return std::nullopt;
    }
    return type;
  }

  void read_row(std::int64_t row, std::span<double> out) const override {
    const auto [part, at] = source(row);
    part->read_row(at, out);
  }
  std::string format() const override { return parts_.front().weight->format(); }
  std::uint64_t stored_bytes() const override {
    std::uint64_t bytes = 0;
    for (const RunPart& part : parts_)
      bytes += part.weight->stored_bytes();
    return bytes;
  }

 private:
  // The part that holds a row, and which of its rows that is.
  std::pair<const Weight*, std::int64_t> source(std::int64_t row) const {
    std::int64_t inside = row % run_;
    std::size_t index = 0;
    while (inside >= parts_[index].rows)
      inside -= parts_[index++].rows;
    return {parts_[index].weight.get(), row / run_ * parts_[index].rows + inside};
  }

  std::vector<RunPart> parts_;
  std::int64_t run_ = 0;
  Shape shape_;
};

// Decoded groups wait for the threads that read their other rows; the last row of a group, read last when rows are read in
// order, lets it go.
class TransposedGroupsView final : public Weight {
 public:
  TransposedGroupsView(WeightPtr base, std::int64_t groups)
      : base_(std::move(base)), rows_(base_->rows() / groups) {
    shape_ = {groups, base_->row_length(), rows_};
  }

  const Shape& shape() const override { return shape_; }

  void read_row(std::int64_t row, std::span<double> out) const override {
    const std::int64_t column = row % shape_[1];
    const std::shared_ptr<const Group> group = decoded(row / shape_[1], column == shape_[1] - 1);
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = group->values[i * static_cast<std::size_t>(shape_[1]) +
                             static_cast<std::size_t>(column)];
  }

  std::string format() const override { return base_->format(); }
  std::uint64_t stored_bytes() const override { return base_->stored_bytes(); }

 private:
  struct Group {
    std::int64_t index;
    std::vector<double> values;  // the base's rows, one after the other
  };
  static constexpr std::size_t kKept = 8;

  std::shared_ptr<const Group> decoded(std::int64_t index, bool is_last_row) const {
    std::shared_ptr<const Group>& slot = kept_[static_cast<std::size_t>(index) % kKept];
    {
      const std::lock_guard lock(mutex_);
      if (slot != nullptr && slot->index == index) {
        return is_last_row ? std::exchange(slot, nullptr) : slot;
      }
    }
    const auto length = static_cast<std::size_t>(shape_[1]);
    auto group = std::make_shared<Group>();
    group->index = index;
    group->values.resize(length * static_cast<std::size_t>(rows_));
    for (std::int64_t i = 0; i < rows_; ++i) {
      base_->read_row(index * rows_ + i, std::span<double>(group->values)
                                             .subspan(static_cast<std::size_t>(i) * length, length));
    }
    if (is_last_row) return group;
    const std::lock_guard lock(mutex_);
    slot = group;
    return group;
  }

  WeightPtr base_;
  std::int64_t rows_;  // of a group of the base
  Shape shape_;
  mutable std::mutex mutex_;
  mutable std::array<std::shared_ptr<const Group>, kKept> kept_;
};

class SameRowsView final : public Weight {
 public:
  SameRowsView(WeightPtr base, Shape shape) : base_(std::move(base)), shape_(std::move(shape)) {}

  const Shape& shape() const override { return shape_; }
  std::optional<DType> stored_dtype() const override { return base_->stored_dtype(); }
  std::span<const std::byte> stored_row(std::int64_t row) const override {
    return base_->stored_row(row);
  }
  std::optional<ScaledForm> scaled_form() const override { return base_->scaled_form(); }
  ScaledRow scaled_row(std::int64_t row) const override { return base_->scaled_row(row); }
  bool has_integers() const override { return base_->has_integers(); }
  void read_integers(std::int64_t row, std::span<std::int8_t> codes, std::span<float> scales, std::span<float> offsets) const override {
    base_->read_integers(row, codes, scales, offsets);
  }
  std::optional<DType> element_type() const override { return base_->element_type(); }
  std::optional<GroupedRow> grouped_row(std::int64_t row) const override {
    return base_->grouped_row(row);
  }
  void release() const override { base_->release(); }
  void read_row(std::int64_t row, std::span<double> out) const override {
    base_->read_row(row, out);
  }
  std::string format() const override { return base_->format(); }
  std::uint64_t stored_bytes() const override { return base_->stored_bytes(); }

 private:
  WeightPtr base_;
  Shape shape_;
};

class FunctionView final : public Weight {
 public:
  FunctionView(WeightPtr base, double (*function)(double), std::string_view name)
      : base_(std::move(base)), function_(function), name_(name) {}

  const Shape& shape() const override { return base_->shape(); }
  void read_row(std::int64_t row, std::span<double> out) const override {
    base_->read_row(row, out);
    for (double& value : out)
      value = function_(value);
  }
  std::string format() const override { return base_->format() + " of " + std::string(name_); }
  std::uint64_t stored_bytes() const override { return base_->stored_bytes(); }

 private:
  WeightPtr base_;
  double (*function_)(double);
  std::string_view name_;
};

// The base's index for each of the view, over `count` rows or columns; nothing where the heads are more than those.
std::optional<Order> tile_order(const HeadTiles& tiles, TileOrder order, std::int64_t count) {
  if (tiles.groups < 1 || tiles.of_group < 1 || tiles.width < 1) return std::nullopt;
  const auto heads = checked_mul(tiles.groups, tiles.of_group);
  const auto tiled = heads ? checked_mul(*heads, tiles.width) : std::nullopt;
  if (!tiled || *tiled > count) return std::nullopt;
  // A view in groups looks for its head (group, place) among tiles of as many heads as there are groups, and the other way
  // round.
  const std::int64_t inner = order == TileOrder::kGrouped ? tiles.of_group : tiles.groups;
  const std::int64_t outer = *heads / inner;
  return [first = count - *tiled, width = tiles.width, inner, outer](std::int64_t index) {
    if (index < first) return index;
    const std::int64_t head = (index - first) / width;
    return first + (head % inner * outer + head / inner) * width + (index - first) % width;
  };
}

// The halves of a head as two groups of heads of one row: in turns they are tiled.
Result<WeightPtr> rotary_view(WeightPtr base, std::int64_t head, TileOrder order) {
  const Shape shape = base->shape();
  if (shape.empty() || shape.size() > 2 || head < 2 || head % 2 != 0 || shape[0] % head != 0)
    return misfit(*base, "has no whole heads of " + std::to_string(head) + " rows");
  const auto rows = tile_order({.groups = 2, .of_group = head / 2, .width = 1}, order, head);
  return WeightPtr(std::make_shared<OrderedView>(
      std::move(base), shape,
      [head, rows = *rows](std::int64_t row) { return row - row % head + rows(row % head); }));
}

}  // namespace

Result<WeightPtr> tiled_rows_view(WeightPtr base, const HeadTiles& tiles, TileOrder order) {
  if (tiles.groups == 1 || tiles.of_group == 1) return base;
  const Shape shape = base->shape();
  const auto rows = shape.empty() ? std::nullopt : tile_order(tiles, order, shape[0]);
  if (!rows) return misfit(*base, "has not the rows of its value heads");
  return WeightPtr(std::make_shared<OrderedView>(std::move(base), shape, *rows));
}

Result<WeightPtr> tiled_columns_view(WeightPtr base, const HeadTiles& tiles, TileOrder order) {
  if (tiles.groups == 1 || tiles.of_group == 1) return base;
  const auto columns = tile_order(tiles, order, base->row_length());
  if (!columns) return misfit(*base, "has not the columns of its value heads");
  return WeightPtr(std::make_shared<OrderedColumnsView>(std::move(base), *columns));
}

Result<WeightPtr> rotary_turns_view(WeightPtr base, std::int64_t head) {
  return rotary_view(std::move(base), head, TileOrder::kTiled);
}

Result<WeightPtr> rotary_halves_view(WeightPtr base, std::int64_t head) {
  return rotary_view(std::move(base), head, TileOrder::kGrouped);
}

Result<WeightPtr> run_parts_view(WeightPtr base, std::int64_t groups, std::int64_t first,
                                 std::int64_t count) {
  const Shape& stored = base->shape();
  if (stored.size() != 2 || groups < 1 || stored[0] % groups != 0 || first < 0 || count < 1 ||
      count > stored[0] / groups || first > stored[0] / groups - count) {
    return misfit(*base, "has no " + std::to_string(count) + " rows from row " +
                             std::to_string(first) + " on in each of " + std::to_string(groups) +
                             " runs");
  }
  const std::int64_t run = stored[0] / groups;
  const Shape shape = {groups * count, stored[1]};
  return WeightPtr(std::make_shared<OrderedView>(
      std::move(base), shape,
      [run, first, count](std::int64_t row) { return row / count * run + first + row % count; }));
}

Result<WeightPtr> joined_runs_view(std::vector<RunPart> parts, std::int64_t groups) {
  for (const RunPart& part : parts) {
    const Shape& shape = part.weight->shape();
    const auto rows = checked_mul(groups, part.rows);
    if (shape.size() != 2 || groups < 1 || part.rows < 1 || rows != shape[0] ||
        shape[1] != parts.front().weight->row_length()) {
      return misfit(*part.weight, "has not " + std::to_string(part.rows) + " rows in each of " +
                                      std::to_string(groups) + " runs");
    }
  }
  if (parts.empty()) return Error{ErrorCode::kInternal, "a tensor of no parts"};
  return WeightPtr(std::make_shared<JoinedRunsView>(std::move(parts), groups));
}

Result<WeightPtr> transposed_groups_view(WeightPtr base, std::int64_t groups) {
  const Shape& shape = base->shape();
  const bool is_whole = shape.size() == 3 ? shape[0] == groups
                                          : shape.size() == 2 && groups > 0 && shape[0] % groups == 0;
  if (groups < 1 || !is_whole)
    return misfit(*base, "has no " + std::to_string(groups) + " groups to transpose");
  return WeightPtr(std::make_shared<TransposedGroupsView>(std::move(base), groups));
}

Result<WeightPtr> same_rows_view(WeightPtr base, const Shape& shape) {
  if (shape.empty() || base->shape().empty() || shape.back() != base->shape().back() ||
      element_count(shape) != element_count(base->shape())) {
    return misfit(*base, "has not the rows of a tensor of shape " + to_string(shape));
  }
  if (shape == base->shape()) return base;
  return WeightPtr(std::make_shared<SameRowsView>(std::move(base), shape));
}

WeightPtr plus_one_view(WeightPtr base) {
  return std::make_shared<FunctionView>(
      std::move(base), [](double w) { return w + 1; }, "w less 1");
}

WeightPtr less_one_view(WeightPtr base) {
  return std::make_shared<FunctionView>(
      std::move(base), [](double w) { return w - 1; }, "1 + w");
}

WeightPtr minus_exp_view(WeightPtr base) {
  return std::make_shared<FunctionView>(
      std::move(base), [](double w) { return -std::exp(w); }, "log(-w)");
}

WeightPtr log_of_minus_view(WeightPtr base) {
  return std::make_shared<FunctionView>(
      std::move(base), [](double w) { return std::log(-w); }, "-exp(w)");
}

}  // namespace plumb
