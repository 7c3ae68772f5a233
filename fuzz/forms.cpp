// config.json's quantization_config and the tensors of a safetensors file from any bytes: every parameter that they form is taken, its rows are
// read in each way that it offers, and laid out for the cpu executor, whose products must be those of the decoded rows.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "cpu/isa.h"
#include "cpu/matrix.h"
#include "io/forms/form.h"
#include "io/weight_map.h"
#include "parts.h"

namespace {

using plumb::cpu::Activations;
using plumb::cpu::kPanelRows;

constexpr std::int64_t kMostRows = 1 << 12;
constexpr std::int64_t kMostElements = 1 << 16;

// Both products of the first 32 rows with ones; the sums of what is multiplied bound how far apart they may be.
void multiply(const plumb::WeightPtr& weight) {
  const plumb::cpu::Kernels& kernels = plumb::cpu::kernels_for(plumb::cpu::Isa::kPortable);
  const plumb::cpu::Matrix matrix(weight, Activations::kAuto, kernels);
  if (!matrix.form()) return;
  plumb::cpu::DecodeScratch scratch;
  plumb::cpu::Pages pages;
  const std::vector<float> ones(static_cast<std::size_t>(matrix.columns()), 1.0F);
  std::vector<float> as_stored(kPanelRows);
  std::vector<float> decoded(kPanelRows);
  kernels.multiply_float(matrix.panel(0, kernels, pages), ones.data(), matrix.columns(), 1, as_stored.data());
  kernels.multiply_float(matrix.decoded_panel(0, kernels, scratch), ones.data(), matrix.columns(), 1, decoded.data());
  std::vector<double> row(ones.size());
  for (std::int64_t r = 0; r < std::min<std::int64_t>(kPanelRows, matrix.rows()); ++r) {
    weight->read_row(r, row);
    double sum = 0;
    for (const double value : row)
      sum += std::abs(value);
    if (!(sum < 1e30)) continue;  // nor numbers that only one of the two orders of operations can hold
    const auto at = static_cast<std::size_t>(r);
    if (std::abs(as_stored[at] - decoded[at]) <= 1e-4 * sum + 1e-30) continue;
    std::fprintf(stderr, "%s: row %d: %g as stored, %g decoded\n", weight->format().c_str(), static_cast<int>(r), as_stored[at], decoded[at]);
    std::abort();
  }
}

void use(const plumb::WeightPtr& weight) {
  const std::int64_t elements = plumb::element_count(weight->shape()).value_or(kMostElements + 1);
  if (weight->rows() > kMostRows || elements > kMostElements || elements == 0) return;
  std::vector<double> row(static_cast<std::size_t>(weight->row_length()));
  for (std::int64_t r = 0; r < weight->rows(); ++r) {
    weight->read_row(r, row);
    (void)weight->grouped_row(r);
  }
  if (weight->shape().size() == 3) {
    const plumb::WeightPtr slice = weight->slice(weight->shape()[0] - 1);
    if (slice != nullptr) use(slice);
  }
  multiply(weight);
  weight->release();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto parts = plumb::fuzz::parts_of(data, size, 2);
  const auto source = plumb::fuzz::MemorySource::read(parts[1]);
  if (source == nullptr) return 0;
  plumb::WeightMap map(source, {}, parts[0]);
  for (const auto& tensor : map.skipped()) {
    const auto weight = map.take(tensor.name, tensor.shape);
    if (weight.ok()) use(weight.value());
  }
  (void)map.finish().ok();
  return 0;
}
