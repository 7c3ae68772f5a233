// Matrix: a weight [rows, columns] as the kernels read it. What the file stores in a form that kernels know is packed into
// panels of 32 rows, in the same number of bits, for good or for one product. Grids and groups whose panels would be larger are decoded to
// integers, and every other form to floats, for one product at a time.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/thread_pool.h"
#include "cpu/activations.h"
#include "cpu/kernels/kernels.h"
#include "cpu/memory.h"
#include "io/weight.h"

namespace plumb::cpu {

struct DecodeScratch {
  std::vector<double> row;
  std::vector<float> rows;  // [kPanelRows][columns]
  Pages panel;
};

class Matrix {
 public:
  // Its panels' form is that which activations in this mode are multiplied with.
  Matrix(WeightPtr weight, Activations activations, const Kernels& kernels);

  std::int64_t rows() const { return rows_; }
  std::int64_t columns() const { return columns_; }
  std::int64_t panels() const { return (rows_ + kPanelRows - 1) / kPanelRows; }
  // Nothing where rows are decoded to floats.
  std::optional<PanelForm> form() const { return form_; }
  bool quantised() const { return form_ && *form_ >= PanelForm::kQ8_0; }
  bool int16() const { return form_ == PanelForm::kInt16OfBF16 || form_ == PanelForm::kInt16OfF16; }
  // Of all panels that are kept, a multiple of 64; 0 where rows are decoded as they are used.
  std::size_t packed_bytes() const { return passing_ ? 0 : panel_bytes_ * static_cast<std::size_t>(panels()); }
  // So many bytes at most of the panels that are kept, from panel `index` on; none where they are not placed yet. They may not be packed.
  std::span<const std::uint8_t> kept_from(std::int64_t index, std::size_t most) const;
  // Panels are to lie at `at`, which has packed_bytes() and outlives the matrix; before pack(). Without it they get pages of
  // their own, the last of which is a large one however little of it is used.
  void place(std::uint8_t* at) { at_ = at; }

  // Whether pack() has something to do.
  bool unpacked() const { return form_ && !packed_ && !passing_; }
  // Packs for good, unless that is done, and gives the file's pages back. Not for two threads at once, nor beside panel().
  void pack(ThreadPool& pool, const Kernels& kernels);
  // Only where form() is something; `index` in [0, panels()). Before pack() it is laid out in `scratch`, with the same bytes.
  Panel panel(std::int64_t index, const Kernels& kernels, Pages& scratch) const;
  // The same as floats, of a matrix of any form; it lies in `scratch`.
  Panel decoded_panel(std::int64_t index, const Kernels& kernels, DecodeScratch& scratch) const;

  // "Q4_0, panels", "Q5_K, decoded as it is used".
  std::string path() const;

 private:
  void pack_panel(const Kernels& kernels, std::int64_t index, std::uint8_t* to) const;
  void pack_integer_panel(const Kernels& kernels, std::int64_t index, std::uint8_t* to) const;
  void pack_scaled_panel(const Kernels& kernels, std::int64_t index, std::uint8_t* to) const;

  WeightPtr weight_;
  std::int64_t rows_;
  std::int64_t columns_;
  std::optional<PanelForm> form_;
  bool passing_ = false;  // panels are larger than the file's rows and never kept
  bool scaled_ = false;  // rows are weight_'s scaled_row(), not stored_row()
  std::size_t panel_bytes_ = 0;
  Pages pages_;
  std::uint8_t* at_ = nullptr;
  bool packed_ = false;
};

}  // namespace plumb::cpu
