// Weights as files store them, and parts of them in another order. A view keeps what it looks at
// alive and copies nothing.
#pragma once
#include <cstdint>
#include <memory>

#include "core/result.h"
#include "core/shape.h"
#include "io/tensor_source.h"
#include "io/weight.h"

namespace plumb {

// A tensor of a file as it stands.
WeightPtr stored_weight(std::shared_ptr<const TensorSource> source, const StoredTensor& tensor);

// Slice `index` of the first axis: [n, …] to […].
Result<WeightPtr> slice_view(WeightPtr base, std::int64_t index);

// `shape` out of the first axis of `base`: row r (element r of a vector) is row first + r * step of
// the base. Their other axes must be equal.
Result<WeightPtr> strided_view(WeightPtr base, const Shape& shape, std::int64_t first,
                               std::int64_t step);

// The same elements in the same order under another shape. Elements of block formats keep their
// rows: an error.
Result<WeightPtr> reshaped_view(WeightPtr base, const Shape& shape);

// [in, out] as [out, in]. Elements of block formats cannot be transposed: an error.
Result<WeightPtr> transposed_view(WeightPtr base);

}  // namespace plumb
