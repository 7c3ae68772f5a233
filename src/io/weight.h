// Weight: one parameter as the graph asked for it, in whatever form the file stores it. A form
// (plain elements, blocks with scales beside them, a slice or a permutation of another tensor) is a
// class of its own; callers see rows of numbers. Immutable and safe to share between threads. The
// bytes stay mapped as long as the weight lives.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/shape.h"

namespace plumb {

// A row as its file packs it: element i is scales[i / group] * codes[i] + offsets[i / group].
struct GroupedRow {
  std::vector<double> codes;
  std::vector<double> scales;
  std::vector<double> offsets;  // empty: none
  std::size_t group;
};

// Codes with scales beside them, as their file packs them.
enum class ScaledCodes : std::uint8_t {
  kE2M1,  // two in a byte, the first in the low nibble
  kE4M3,
};

struct ScaledForm {
  ScaledCodes codes;
  DType scales;
  std::int64_t group;  // columns that share a scale; the last ones of a row may be fewer
  bool finite_powers = false;  // an E8M0 of 255 is 2^128, not no number

  bool operator==(const ScaledForm&) const = default;
};

// Element i is codes[i] * scales[i / group] * factor.
struct ScaledRow {
  std::span<const std::byte> codes;   // not aligned, nor are the scales
  std::span<const std::byte> scales;
  float factor;
};

class Weight {
 public:
  virtual ~Weight() = default;

  virtual const Shape& shape() const = 0;  // elements; [out, in] for a linear map

  // Decodes row `row` into `out`. A row is the last axis; the other axes are flattened: row in [0,
  // rows()). `out` has row_length() elements. Values are exact: what the stored bits mean in
  // float32 arithmetic, or in float64 and int64 where the file stores those.
  virtual void read_row(std::int64_t row, std::span<double> out) const = 0;

  // The dtype of the rows' stored bytes where each row is one run of elements or blocks that alone
  // say what read_row decodes; nothing for other forms (scales beside the codes, columns, changed
  // values), which are read by read_row only.
  virtual std::optional<DType> stored_dtype() const { return std::nullopt; }
  // What the file holds the elements as, also where rows are not one run of its bytes: what an engine chooses its arithmetic by.
  virtual std::optional<DType> element_type() const { return stored_dtype(); }
  // For forms of MLX: an engine that multiplies packed rows in two bytes rounds between the parts.
  virtual std::optional<GroupedRow> grouped_row(std::int64_t /*row*/) const { return std::nullopt; }
  // The bytes of stored_dtype(); not aligned. Only where stored_dtype() is something.
  virtual std::span<const std::byte> stored_row(std::int64_t /*row*/) const { return {}; }
  // For engines that multiply codes as they are stored; nothing for other forms.
  virtual std::optional<ScaledForm> scaled_form() const { return std::nullopt; }
  // Only where scaled_form() is something.
  virtual ScaledRow scaled_row(std::int64_t /*row*/) const { return {}; }
  // Whether rows are whole numbers from -128 to 127 with a scale and an offset for each 16, of whole 32 elements.
  virtual bool has_integers() const { return false; }
  // Only where has_integers(): element i is scales[i / 16] * codes[i] + offsets[i / 16], but for the rounding of float32.
  virtual void read_integers(std::int64_t /*row*/, std::span<std::int8_t> /*codes*/, std::span<float> /*scales*/,
                             std::span<float> /*offsets*/) const {}
  // Slice `index` of the first axis, checked by the caller, where this form has a smaller weight of its own for it.
  virtual std::shared_ptr<const Weight> slice(std::int64_t /*index*/) const { return nullptr; }
  // A hint: a copy of the stored bytes is used from now on. Reading them again still works.
  virtual void release() const {}

  virtual std::string format()
      const = 0;  // for people: "BF16", "FP8 E4M3, 128x128 blocks, F32 scales"
  virtual std::uint64_t stored_bytes() const = 0;  // bytes of the file that this weight reads

  std::int64_t rows() const;        // 1 for a vector or a scalar
  std::int64_t row_length() const;  // 1 for a scalar
};

using WeightPtr = std::shared_ptr<const Weight>;

}  // namespace plumb
