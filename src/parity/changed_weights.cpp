// Views that change rows as they are read.
#include "parity/changed_weights.h"

#include <algorithm>
#include <functional>
#include <string>
#include <utility>

#include "core/float_bits.h"

namespace plumb {
namespace {

class Changed final : public Weight {
 public:
  using Read = std::function<void(const Weight& base, std::int64_t row, std::span<double> out)>;

  Changed(WeightPtr base, Read read) : base_(std::move(base)), read_(std::move(read)) {}
  const Shape& shape() const override { return base_->shape(); }
  void read_row(std::int64_t row, std::span<double> out) const override { read_(*base_, row, out); }
  std::optional<DType> element_type() const override { return base_->element_type(); }
  std::string format() const override { return base_->format(); }
  std::uint64_t stored_bytes() const override { return base_->stored_bytes(); }

 private:
  WeightPtr base_;
  Read read_;
};

class Constant final : public Weight {
 public:
  Constant(Shape shape, double value) : shape_(std::move(shape)), value_(value) {}
  const Shape& shape() const override { return shape_; }
  void read_row(std::int64_t, std::span<double> out) const override {
    std::ranges::fill(out, value_);
  }
  std::string format() const override { return "constant"; }
  std::uint64_t stored_bytes() const override { return 0; }

 private:
  Shape shape_;
  double value_;
};

}  // namespace

WeightPtr constant(Shape shape, double value) {
  return std::make_shared<Constant>(std::move(shape), value);
}

WeightPtr reordered_rows(WeightPtr weight, std::vector<std::int64_t> order) {
  return std::make_shared<Changed>(
      std::move(weight),
      [order = std::move(order)](const Weight& base, std::int64_t row, std::span<double> out) {
        if (base.shape().size() > 1)
          return base.read_row(order[static_cast<std::size_t>(row)], out);
        std::vector<double> all(out.size());
        base.read_row(0, all);
        for (std::size_t i = 0; i < out.size(); ++i)
          out[i] = all[static_cast<std::size_t>(order[i])];
      });
}

WeightPtr exchanged_halves(WeightPtr weight) {
  return std::make_shared<Changed>(std::move(weight), [](const Weight& base, std::int64_t row,
                                                         std::span<double> out) {
    base.read_row(row, out);
    std::rotate(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(out.size() / 2), out.end());
  });
}

WeightPtr rows_of(std::vector<WeightPtr> weights, std::vector<RowOf> order) {
  const WeightPtr first = weights.front();
  return std::make_shared<Changed>(
      first, [weights = std::move(weights), order = std::move(order)](
                 const Weight& base, std::int64_t row, std::span<double> out) {
        if (base.shape().size() > 1) {
          const RowOf& from = order[static_cast<std::size_t>(row)];
          return weights[from.weight]->read_row(from.row, out);
        }
        std::vector<std::vector<double>> all;
        for (const WeightPtr& weight : weights) {
          all.emplace_back(static_cast<std::size_t>(weight->row_length()));
          weight->read_row(0, all.back());
        }
        for (std::size_t i = 0; i < out.size(); ++i)
          out[i] = all[order[i].weight][static_cast<std::size_t>(order[i].row)];
      });
}

WeightPtr scaled(WeightPtr weight, double factor) {
  return std::make_shared<Changed>(
      std::move(weight), [factor](const Weight& base, std::int64_t row, std::span<double> out) {
        base.read_row(row, out);
        for (double& value : out)
          value *= factor;
      });
}

WeightPtr rounded_with_offset(WeightPtr weight, double offset) {
  return std::make_shared<Changed>(
      std::move(weight), [offset](const Weight& base, std::int64_t row, std::span<double> out) {
        base.read_row(row, out);
        for (double& value : out)
          value = round_to_bfloat16(static_cast<float>(offset + value)) - offset;
      });
}

WeightPtr column_range(WeightPtr weight, std::int64_t first, std::int64_t count) {
  return std::make_shared<Changed>(
      std::move(weight),
      [first, count](const Weight& base, std::int64_t row, std::span<double> out) {
        base.read_row(row, out);
        for (std::size_t i = 0; i < out.size(); ++i) {
          const auto column = static_cast<std::int64_t>(i);
          if (column < first || column >= first + count) out[i] = 0;
        }
      });
}

}  // namespace plumb
