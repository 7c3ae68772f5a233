// Four-bit floats, E2M1. MXFP4: one E8M0 scale for 32 elements (gpt-oss's `_blocks` and `_scales`; DeepSeek's I8 `weight` with
// `.scale`; compressed-tensors' `weight_packed` with `weight_scale`). NVFP4: one E4M3 scale for 16 elements and one F32 for
// the tensor, which ModelOpt (`weight_scale_2`) multiplies by and compressed-tensors (`weight_global_scale`) divides by.
#include <string>

#include "core/checked.h"
#include "io/forms/families.h"
#include "io/forms/scaled.h"

namespace plumb {
namespace {

constexpr std::int64_t kMxGroup = 32;
constexpr std::int64_t kNvGroup = 16;

// [..., n] bytes as [..., 2 n] elements; gpt-oss keeps each block of a row as an axis of its own.
std::optional<Shape> unpacked_shape(const Shape& bytes, std::size_t axes) {
  if (bytes.size() < axes) return std::nullopt;
  Shape shape(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(axes));
  for (std::size_t i = axes; i < bytes.size(); ++i) {
    const auto longer = checked_mul(shape.back(), bytes[i]);
    if (!longer) return std::nullopt;
    shape.back() = *longer;
  }
  const auto elements = checked_mul<std::int64_t>(shape.back(), 2);
  if (!elements) return std::nullopt;
  shape.back() = *elements;
  return shape;
}

struct Global {
  const StoredTensor* tensor = nullptr;
  bool divides = false;
};

// `finite_powers`: transformers (integrations/mxfp4.py) reads gpt-oss's scales as exponents, 255 too. torch.float8_e8m0fnu, in which the others are
// read, has no number there.
Formed e2m1_parameter(std::string name, const FormFiles& files, const StoredTensor& codes,
                      const StoredTensor& scales, Global global, bool finite_powers = false) {
  const bool nv = global.tensor != nullptr;
  const auto shape = unpacked_shape(codes.shape, codes.shape.size() == 4 ? 3 : 2);
  if (!shape) return broken(std::move(name), form_error(files, codes, "is not a matrix"), codes);
  const auto grid = group_grid(files, scales, *shape, nv ? kNvGroup : kMxGroup);
  if (!grid.ok()) return broken(std::move(name), grid.error(), codes);
  const DType expected = nv ? DType::kF8E4M3 : DType::kF8E8M0;
  if (grid.value().dtype != expected) {
    return broken(std::move(name),
                  form_error(files, scales,
                             nv ? "does not hold the E4M3 scales of NVFP4"
                                : "does not hold the E8M0 scales of MXFP4"),
                  codes);
  }
  ScaledParts parts{.shape = *shape,
                    .format = nv ? "NVFP4" : "MXFP4",
                    .codes = codes.bytes,
                    .row_bytes = static_cast<std::uint64_t>(shape->back() / 2),
                    .decode_row = decode_e2m1_row,
                    .scales = grid.value(),
                    .kind = ScaledCodes::kE2M1,
                    .finite_powers = finite_powers};
  std::vector<const StoredTensor*> tensors = {&codes, &scales};
  if (nv) {
    const auto value = scalar_of(files, *global.tensor);
    if (!value.ok()) return broken(std::move(name), value.error(), codes);
    (global.divides ? parts.divisor : parts.factor) = value.value();
    tensors.push_back(global.tensor);
  }
  return {std::move(name), scaled_weight(files, std::move(parts), tensors), tensors};
}

}  // namespace

std::optional<Formed> gpt_oss_mxfp4_form(const StoredTensor& codes, const FormFiles& files) {
  const auto stem = stem_of(codes.name, "_blocks");
  if (!stem || codes.dtype != DType::kU8 || codes.shape.size() != 4 || codes.shape[3] != 16)
    return std::nullopt;
  const StoredTensor* scales = files.beside(*stem, "_scales");
  if (scales == nullptr) return without(codes.name, files, codes, std::string(*stem) + "_scales");
  return e2m1_parameter(codes.name, files, codes, *scales, {}, true);
}

std::optional<Formed> deepseek_mxfp4_form(const StoredTensor& codes, const FormFiles& files) {
  const auto stem = stem_of(codes.name, ".weight");
  if (!stem || codes.dtype != DType::kI8) return std::nullopt;
  const StoredTensor* scales = files.beside(*stem, ".scale");
  if (scales == nullptr) return std::nullopt;
  return e2m1_parameter(codes.name, files, codes, *scales, {});
}

std::optional<Formed> modelopt_nvfp4_form(const StoredTensor& codes, const FormFiles& files) {
  const auto stem = stem_of(codes.name, ".weight");
  if (!stem || codes.dtype != DType::kU8) return std::nullopt;
  const StoredTensor* scales = files.beside(*stem, ".weight_scale");
  const StoredTensor* global = files.beside(*stem, ".weight_scale_2");
  if (scales == nullptr && global == nullptr) return std::nullopt;
  if (scales == nullptr)
    return without(codes.name, files, codes, std::string(*stem) + ".weight_scale");
  if (global == nullptr)
    return without(codes.name, files, codes, std::string(*stem) + ".weight_scale_2");
  return e2m1_parameter(codes.name, files, codes, *scales, {global, false});
}

std::optional<Formed> packed_fp4_form(const StoredTensor& codes, const FormFiles& files) {
  const auto stem = stem_of(codes.name, ".weight_packed");
  if (!stem || codes.dtype != DType::kU8) return std::nullopt;
  const std::string name = std::string(*stem) + ".weight";
  const StoredTensor* scales = files.beside(*stem, ".weight_scale");
  const StoredTensor* global = files.beside(*stem, ".weight_global_scale");
  if (scales == nullptr) return without(name, files, codes, std::string(*stem) + ".weight_scale");
  if (global == nullptr && scales->dtype == DType::kF8E4M3)
    return without(name, files, codes, std::string(*stem) + ".weight_global_scale");
  return e2m1_parameter(name, files, codes, *scales, {global, true});
}

}  // namespace plumb
