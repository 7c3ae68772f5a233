// Weights that are parts of other weights.
#include "io/weight_views.h"

#include <utility>
#include <vector>

#include "core/checked.h"
#include "io/decode.h"

namespace plumb {
namespace {

class StoredWeight final : public Weight {
 public:
  StoredWeight(std::shared_ptr<const TensorSource> source, DType dtype, Shape shape,
               std::span<const std::byte> bytes)
      : source_(std::move(source)), dtype_(dtype), shape_(std::move(shape)), bytes_(bytes) {
    row_bytes_ = *stored_size(dtype_, row_length());
  }

  const Shape& shape() const override { return shape_; }

  void read_row(std::int64_t row, std::span<double> out) const override {
    decode(dtype_, bytes_.subspan(static_cast<std::uint64_t>(row) * row_bytes_, row_bytes_), out);
  }

  std::optional<DType> stored_dtype() const override { return dtype_; }
  std::span<const std::byte> stored_row(std::int64_t row) const override {
    return bytes_.subspan(static_cast<std::uint64_t>(row) * row_bytes_, row_bytes_);
  }

  void release() const override { source_->release(bytes_); }

  // Element `column` of rows [0, rows()): a column of the matrix. Plain element types only.
  void read_column(std::int64_t column, std::span<double> out) const {
    const auto width = static_cast<std::uint64_t>(info(dtype_).block_bytes);
    for (std::size_t row = 0; row < out.size(); ++row) {
      const std::uint64_t offset = row * row_bytes_ + static_cast<std::uint64_t>(column) * width;
      decode(dtype_, bytes_.subspan(offset, width), out.subspan(row, 1));
    }
  }

  WeightPtr slice(std::int64_t index) const override {
    const std::uint64_t size = bytes_.size() / static_cast<std::uint64_t>(shape_[0]);
    return std::make_shared<StoredWeight>(
        source_, dtype_, Shape(shape_.begin() + 1, shape_.end()),
        bytes_.subspan(static_cast<std::uint64_t>(index) * size, size));
  }

  std::shared_ptr<const StoredWeight> reshaped(const Shape& shape) const {
    return std::make_shared<StoredWeight>(source_, dtype_, shape, bytes_);
  }

  bool is_plain() const { return info(dtype_).block_elements == 1; }
  std::string format() const override { return std::string(to_string(dtype_)); }
  std::uint64_t stored_bytes() const override { return bytes_.size(); }

 private:
  std::shared_ptr<const TensorSource> source_;  // keeps the mapping
  DType dtype_;
  Shape shape_;
  std::span<const std::byte> bytes_;
  std::uint64_t row_bytes_;
};

// The part of the base's bytes that a view with `elements` elements reads.
std::uint64_t share_of_bytes(const Weight& base, std::int64_t elements) {
  const auto all = static_cast<double>(base.rows()) * static_cast<double>(base.row_length());
  return all == 0 ? 0
                  : static_cast<std::uint64_t>(static_cast<double>(base.stored_bytes()) *
                                               (static_cast<double>(elements) / all));
}

// Rows first + r * step of the base, whose rows after the first axis are taken together.
class StridedView final : public Weight {
 public:
  StridedView(WeightPtr base, Shape shape, std::int64_t first, std::int64_t step)
      : base_(std::move(base)), shape_(std::move(shape)), first_(first), step_(step) {
    for (std::size_t i = 1; i + 1 < shape_.size(); ++i)
      group_ *= shape_[i];
  }

  const Shape& shape() const override { return shape_; }

  std::optional<DType> stored_dtype() const override {
    return shape_.size() > 1 ? base_->stored_dtype() : std::nullopt;
  }
  std::span<const std::byte> stored_row(std::int64_t row) const override {
    return base_->stored_row(stored(row));
  }
  std::optional<ScaledForm> scaled_form() const override { return base_->scaled_form(); }
  ScaledRow scaled_row(std::int64_t row) const override { return base_->scaled_row(stored(row)); }
  bool has_integers() const override { return base_->has_integers(); }
  void read_integers(std::int64_t row, std::span<std::int8_t> codes, std::span<float> scales, std::span<float> offsets) const override {
    base_->read_integers(stored(row), codes, scales, offsets);
  }
  std::optional<DType> element_type() const override { return base_->element_type(); }
  std::optional<GroupedRow> grouped_row(std::int64_t row) const override {
    return shape_.size() > 1 ? base_->grouped_row(stored(row)) : std::nullopt;
  }
  void release() const override { base_->release(); }

  void read_row(std::int64_t row, std::span<double> out) const override {
    if (shape_.size() > 1) return base_->read_row(stored(row), out);
    std::vector<double> all(static_cast<std::size_t>(base_->row_length()));
    base_->read_row(0, all);
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = all[static_cast<std::size_t>(first_) + i * static_cast<std::size_t>(step_)];
    }
  }

  std::string format() const override { return base_->format(); }
  std::uint64_t stored_bytes() const override {
    return share_of_bytes(*base_, rows() * row_length());
  }

 private:
  std::int64_t stored(std::int64_t row) const {
    return (first_ + row / group_ * step_) * group_ + row % group_;
  }

  WeightPtr base_;
  Shape shape_;
  std::int64_t first_;
  std::int64_t step_;
  std::int64_t group_ = 1;  // rows of the base for each index of the first axis
};

// Slice `index` of the first axis of a weight of any form.
class SliceView final : public Weight {
 public:
  SliceView(WeightPtr base, std::int64_t index)
      : base_(std::move(base)),
        shape_(base_->shape().begin() + 1, base_->shape().end()),
        first_row_(index * rows()) {}

  const Shape& shape() const override { return shape_; }
  void read_row(std::int64_t row, std::span<double> out) const override {
    base_->read_row(first_row_ + row, out);
  }
  std::optional<DType> stored_dtype() const override { return base_->stored_dtype(); }
  std::span<const std::byte> stored_row(std::int64_t row) const override {
    return base_->stored_row(first_row_ + row);
  }
  std::optional<ScaledForm> scaled_form() const override { return base_->scaled_form(); }
  ScaledRow scaled_row(std::int64_t row) const override { return base_->scaled_row(first_row_ + row); }
  bool has_integers() const override { return base_->has_integers(); }
  void read_integers(std::int64_t row, std::span<std::int8_t> codes, std::span<float> scales, std::span<float> offsets) const override {
    base_->read_integers(first_row_ + row, codes, scales, offsets);
  }
  std::optional<DType> element_type() const override { return base_->element_type(); }
  std::optional<GroupedRow> grouped_row(std::int64_t row) const override {
    return base_->grouped_row(first_row_ + row);
  }
  void release() const override { base_->release(); }
  std::string format() const override { return base_->format(); }
  std::uint64_t stored_bytes() const override {
    return share_of_bytes(*base_, rows() * row_length());
  }

 private:
  WeightPtr base_;
  Shape shape_;
  std::int64_t first_row_;
};

class TransposedView final : public Weight {
 public:
  explicit TransposedView(std::shared_ptr<const StoredWeight> base)
      : base_(std::move(base)), shape_{base_->shape()[1], base_->shape()[0]} {}

  const Shape& shape() const override { return shape_; }
  void read_row(std::int64_t row, std::span<double> out) const override {
    base_->read_column(row, out);
  }
  std::string format() const override { return base_->format(); }
  std::uint64_t stored_bytes() const override { return base_->stored_bytes(); }

 private:
  std::shared_ptr<const StoredWeight> base_;
  Shape shape_;
};

Error bad_view(const Shape& stored, const std::string& what) {
  return {ErrorCode::kCorrupt, "a tensor of shape " + to_string(stored) + " " + what};
}

}  // namespace

WeightPtr stored_weight(std::shared_ptr<const TensorSource> source, const StoredTensor& tensor) {
  return std::make_shared<StoredWeight>(std::move(source), tensor.dtype, tensor.shape,
                                        tensor.bytes);
}

Result<WeightPtr> slice_view(WeightPtr base, std::int64_t index) {
  const Shape& shape = base->shape();
  if (shape.size() < 2 || index < 0 || index >= shape[0]) {
    return bad_view(shape, "has no slice " + std::to_string(index));
  }
  if (WeightPtr own = base->slice(index)) return own;
  return WeightPtr(std::make_shared<SliceView>(std::move(base), index));
}

Result<WeightPtr> strided_view(WeightPtr base, const Shape& shape, std::int64_t first,
                               std::int64_t step) {
  const Shape& stored = base->shape();
  const Error misfit =
      bad_view(stored, "has no rows " + std::to_string(first) + " + " + std::to_string(step) +
                           " r for a parameter of shape " + to_string(shape));
  if (shape.empty() || stored.size() != shape.size() ||
      !std::equal(shape.begin() + 1, shape.end(), stored.begin() + 1)) {
    return misfit;
  }
  const auto span = checked_mul(std::max<std::int64_t>(shape[0] - 1, 0), step);
  const auto last = span ? checked_add(*span, first) : std::nullopt;
  if (first < 0 || step < 1 || !last || (shape[0] > 0 && *last >= stored[0])) return misfit;
  if (first == 0 && shape == stored) return base;
  return WeightPtr(std::make_shared<StridedView>(std::move(base), shape, first, step));
}

Result<WeightPtr> reshaped_view(WeightPtr base, const Shape& shape) {
  auto stored = std::dynamic_pointer_cast<const StoredWeight>(base);
  if (!stored || !stored->is_plain() || element_count(shape) != element_count(base->shape())) {
    return bad_view(base->shape(),
                    "of " + base->format() + " is not a tensor of shape " + to_string(shape));
  }
  return WeightPtr(stored->reshaped(shape));
}

Result<WeightPtr> transposed_view(WeightPtr base) {
  auto stored = std::dynamic_pointer_cast<const StoredWeight>(base);
  if (!stored || !stored->is_plain() || stored->shape().size() != 2) {
    return bad_view(base->shape(), "of " + base->format() + " cannot be transposed");
  }
  return WeightPtr(std::make_shared<TransposedView>(std::move(stored)));
}

}  // namespace plumb
