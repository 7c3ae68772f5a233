// Rows of matrices that MLX quantised. Fields lie in a stream of bits, so those of 3, 5 and 6 bits may cross bytes and words.
#include "io/forms/mlx.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <variant>

#include "core/checked.h"
#include "io/decode.h"

namespace plumb {
namespace {

constexpr std::int64_t kWordBits = 32;
constexpr double kGlobalScaleUnit = 448.0 * 6.0;  // the largest E4M3 times the largest E2M1

enum class Mode : std::uint8_t {
  kAffine,  // w = scale * code + bias
  kMxfp4,   // E2M1 times E8M0
  kMxfp8,   // E4M3 times E8M0
  kNvfp4,   // E2M1 times E4M3
};

struct ModeInfo {
  Mode mode;
  std::string_view name;
  std::int64_t
      group_size;  // where the configuration leaves it out (mlx, nn/layers/quantized.py, _defaults_for_mode)
  std::int64_t bits;  // the same; all that modes other than affine have
};

constexpr ModeInfo kModes[] = {{Mode::kAffine, "affine", 64, 4},
                               {Mode::kMxfp4, "mxfp4", 32, 4},
                               {Mode::kMxfp8, "mxfp8", 32, 8},
                               {Mode::kNvfp4, "nvfp4", 16, 4}};
constexpr std::int64_t kAffineBits[] = {1, 2, 3, 4, 5, 6, 8};

struct Packing {
  ModeInfo mode;
  std::int64_t group_size;
  std::int64_t bits;

  std::string text() const {
    return "MLX " + std::string(mode.name) + ", " + std::to_string(bits) + " bits, groups of " +
           std::to_string(group_size);
  }
};

struct Parts {
  const StoredTensor* codes;
  const StoredTensor* scales;
  const StoredTensor* biases;        // affine mode's, else none
  const StoredTensor* global_scale;  // nvfp4's where present, else none

  std::vector<const StoredTensor*> present() const {
    std::vector<const StoredTensor*> all{codes};
    for (const StoredTensor* part : {scales, biases, global_scale}) {
      if (part != nullptr) all.push_back(part);
    }
    return all;
  }
};

std::span<const std::byte> row_bytes(const StoredTensor& tensor, std::int64_t row) {
  const std::uint64_t size = *stored_size(tensor.dtype, tensor.shape.back());
  return tensor.bytes.subspan(static_cast<std::uint64_t>(row) * size, size);
}

std::vector<double> decoded_row(const StoredTensor& tensor, std::int64_t row) {
  std::vector<double> values(static_cast<std::size_t>(tensor.shape.back()));
  decode(tensor.dtype, row_bytes(tensor, row), values);
  return values;
}

// Field `index` of a row of fields of `bits` bits, 8 at most.
std::uint8_t field(std::span<const std::byte> bytes, std::size_t index, std::size_t bits) {
  const std::size_t bit = index * bits;
  unsigned window = std::to_integer<unsigned>(bytes[bit / 8]);
  if (bit / 8 + 1 < bytes.size()) window |= std::to_integer<unsigned>(bytes[bit / 8 + 1]) << 8;
  return static_cast<std::uint8_t>((window >> (bit % 8)) & ((1U << bits) - 1U));
}

// In float32, as mlx computes it.
float affine(std::uint8_t code, double scale, double bias) {
  return static_cast<float>(scale) * static_cast<float>(code) + static_cast<float>(bias);
}

class MlxWeight final : public FormWeight {
 public:
  MlxWeight(const FormFiles& files, const Parts& parts, const Packing& packing, Shape shape)
      : FormWeight(files, std::move(shape), packing.text(), parts.present()),
        parts_(parts),
        mode_(packing.mode.mode),
        bits_(static_cast<std::size_t>(packing.bits)),
        group_(static_cast<std::size_t>(packing.group_size)) {
    if (parts_.global_scale == nullptr) return;
    global_scales_ = decoded_row(*parts_.global_scale, 0);
    rows_per_expert_ = this->shape()[1];
  }

  void read_row(std::int64_t row, std::span<double> out) const override {
    const auto packed = row_bytes(*parts_.codes, row);
    if (mode_ == Mode::kAffine) {
      const std::vector<double> scales = decoded_row(*parts_.scales, row);
      const std::vector<double> biases = decoded_row(*parts_.biases, row);
      for (std::size_t i = 0; i < out.size(); ++i)
        out[i] = affine(field(packed, i, bits_), scales[i / group_], biases[i / group_]);
      return;
    }
    const auto scales = row_bytes(*parts_.scales, row);
    const double global = global_scale(row);
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = element(field(packed, i, bits_)) * scale(scales[i / group_]) * global;
  }

  std::optional<GroupedRow> grouped_row(std::int64_t row) const override {
    const auto packed = row_bytes(*parts_.codes, row);
    GroupedRow grouped{.codes = std::vector<double>(static_cast<std::size_t>(row_length())),
                       .scales = {},
                       .offsets = {},
                       .group = group_};
    const bool affine = mode_ == Mode::kAffine;
    for (std::size_t i = 0; i < grouped.codes.size(); ++i) {
      const std::uint8_t code = field(packed, i, bits_);
      grouped.codes[i] = affine ? code : element(code);
    }
    if (affine) {
      grouped.scales = decoded_row(*parts_.scales, row);
      grouped.offsets = decoded_row(*parts_.biases, row);
      return grouped;
    }
    const double global = global_scale(row);
    for (const std::byte code : row_bytes(*parts_.scales, row))
      grouped.scales.push_back(scale(code) * global);
    return grouped;
  }

  std::optional<ScaledForm> scaled_form() const override {
    if (mode_ != Mode::kMxfp4 && mode_ != Mode::kNvfp4) return std::nullopt;
    return ScaledForm{ScaledCodes::kE2M1, mode_ == Mode::kNvfp4 ? DType::kF8E4M3 : DType::kF8E8M0, static_cast<std::int64_t>(group_)};
  }
  ScaledRow scaled_row(std::int64_t row) const override {
    return {row_bytes(*parts_.codes, row), row_bytes(*parts_.scales, row), static_cast<float>(global_scale(row))};
  }
  bool has_integers() const override { return mode_ == Mode::kAffine && group_ % 16 == 0; }
  void read_integers(std::int64_t row, std::span<std::int8_t> codes, std::span<float> scales, std::span<float> offsets) const override {
    const auto packed = row_bytes(*parts_.codes, row);
    // Eight fields are as many bytes as a field has bits.
    const int zero = bits_ == 8 ? 128 : 0;
    const std::uint64_t mask = (std::uint64_t{1} << bits_) - 1;
    for (std::size_t i = 0; i < codes.size(); i += 8) {
      std::uint64_t eight = 0;
      std::memcpy(&eight, packed.data() + i / 8 * bits_, bits_);
      for (std::size_t k = 0; k < 8; ++k)
        codes[i + k] = static_cast<std::int8_t>(static_cast<int>((eight >> (k * bits_)) & mask) - zero);
    }
    const std::vector<double> own_scales = decoded_row(*parts_.scales, row);
    const std::vector<double> biases = decoded_row(*parts_.biases, row);
    for (std::size_t i = 0; i < scales.size(); ++i) {
      scales[i] = static_cast<float>(own_scales[i * 16 / group_]);
      offsets[i] = static_cast<float>(biases[i * 16 / group_] + zero * own_scales[i * 16 / group_]);
    }
  }
  std::optional<DType> element_type() const override {
    const auto form = scaled_form();
    if (!form) return std::nullopt;
    return form->scales == DType::kF8E4M3 ? DType::kNVFP4 : DType::kMXFP4;
  }

 private:
  double global_scale(std::int64_t row) const {
    return global_scales_.empty()
               ? 1
               : global_scales_[static_cast<std::size_t>(row / rows_per_expert_)] / kGlobalScaleUnit;
  }

  double element(std::uint8_t code) const {
    return mode_ == Mode::kMxfp8 ? float8_e4m3_to_float(code) : float4_e2m1_to_float(code);
  }

  double scale(std::byte code) const {
    const auto bits = std::to_integer<std::uint8_t>(code);
    return mode_ == Mode::kNvfp4 ? float8_e4m3_to_float(bits) : float8_e8m0_to_float(bits);
  }

  Parts parts_;
  Mode mode_;
  std::size_t bits_;
  std::size_t group_;
  std::vector<double> global_scales_;  // by expert; empty without them
  std::int64_t rows_per_expert_ = 1;
};

const nlohmann::json* member(const nlohmann::json& object, const std::string& key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::optional<std::int64_t> integer_or(const nlohmann::json& object, const std::string& key,
                                       std::int64_t fallback) {
  const nlohmann::json* value = member(object, key);
  if (value == nullptr) return fallback;
  if (!value->is_number_integer() || *value < 0 || *value > INT32_MAX) return std::nullopt;
  return value->get<std::int64_t>();
}

// What an object of the configuration says; a text that says why not.
std::variant<Packing, std::string> packing_of(const nlohmann::json& object) {
  const nlohmann::json* mode = member(object, "mode");
  if (mode != nullptr && !mode->is_string()) return "a \"mode\" that is not text";
  const std::string name = mode == nullptr ? "affine" : mode->get<std::string>();
  const auto* known =
      std::find_if(std::begin(kModes), std::end(kModes),
                   [&](const ModeInfo& candidate) { return candidate.name == name; });
  if (known == std::end(kModes)) return "\"mode\" \"" + name + "\", which is not known";
  const auto group_size = integer_or(object, "group_size", known->group_size);
  const auto bits = integer_or(object, "bits", known->bits);
  if (!group_size || *group_size < 1) return "a \"group_size\" that is not 1 or more";
  const bool known_bits = bits && (known->mode == Mode::kAffine
                                       ? std::find(std::begin(kAffineBits), std::end(kAffineBits),
                                                   *bits) != std::end(kAffineBits)
                                       : *bits == known->bits);
  if (!known_bits) return "\"bits\" that " + name + " does not have";
  return Packing{*known, *group_size, *bits};
}

// The packing of the module `path`: an override where the configuration has one, else what it says of all.
Result<Packing> packing_of(const StoredTensor& codes, const std::string& path,
                           const FormFiles& files) {
  const nlohmann::json* chosen = &files.settings;
  std::string place = "\"quantization\"";
  if (const nlohmann::json* own = member(files.settings, path)) {
    place += " of \"" + path + "\"";
    if (own->is_object()) {
      chosen = own;
    } else if (*own != true) {
      return form_error(files, codes, "is packed, but config.json's " + place + " denies it");
    }
  }
  if (chosen == &files.settings && (!member(*chosen, "group_size") || !member(*chosen, "bits"))) {
    return form_error(files, codes,
                      "is packed, and config.json's \"quantization\" does not give its "
                      "\"group_size\" and \"bits\"");
  }
  auto packing = packing_of(*chosen);
  if (const auto* wrong = std::get_if<std::string>(&packing))
    return form_error(files, codes, "is packed, and config.json's " + place + " has " + *wrong);
  return std::get<Packing>(std::move(packing));
}

std::string described(const StoredTensor& tensor) {
  return "\"" + tensor.name + "\" of " + std::string(to_string(tensor.dtype)) + " " +
         to_string(tensor.shape);
}

bool is_scale_type(Mode mode, DType dtype) {
  if (mode != Mode::kAffine) return dtype == DType::kU8;
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

Result<WeightPtr> read(const Parts& parts, const std::string& path, const FormFiles& files) {
  const StoredTensor& codes = *parts.codes;
  PLUMB_TRY(const Packing packing, packing_of(codes, path, files));
  const Mode mode = packing.mode.mode;
  const auto error = [&](const std::string& what) {
    return form_error(files, codes, "is not a matrix of " + packing.text() + ": " + what);
  };
  if (parts.scales == nullptr) return error("\"" + path + ".scales\" is missing");
  if (mode == Mode::kAffine && parts.biases == nullptr)
    return error("\"" + path + ".biases\" is missing");
  if (mode != Mode::kAffine && parts.biases != nullptr)
    return error(described(*parts.biases) + " has no place in it");

  const auto bits = codes.shape.empty() ? std::nullopt : checked_mul(codes.shape.back(), kWordBits);
  if (!bits || *bits % packing.bits != 0 || *bits / packing.bits % packing.group_size != 0)
    return error("its rows are not whole groups");
  Shape shape = codes.shape;
  shape.back() = *bits / packing.bits;
  if (!element_count(shape)) return error("it has too many elements");
  Shape groups = shape;
  groups.back() /= packing.group_size;
  for (const StoredTensor* part : {parts.scales, parts.biases}) {
    if (part == nullptr || (part->shape == groups && is_scale_type(mode, part->dtype))) continue;
    return error(described(*part) + " must be of " +
                 (mode == Mode::kAffine ? "F32, F16 or BF16 " : "U8 ") + to_string(groups));
  }
  const StoredTensor* global = parts.global_scale;
  if (global != nullptr && (mode != Mode::kNvfp4 || shape.size() != 3 ||
                            global->dtype != DType::kF32 || global->shape != Shape{shape[0]})) {
    return error(described(*global) + " is not a number for each expert of nvfp4");
  }
  return WeightPtr(std::make_shared<MlxWeight>(files, parts, packing, std::move(shape)));
}

}  // namespace

std::optional<Formed> mlx_form(const StoredTensor& codes, const FormFiles& files) {
  const auto stem = stem_of(codes.name, ".weight");
  if (!stem || codes.dtype != DType::kU32) return std::nullopt;
  const Parts parts{.codes = &codes,
                    .scales = files.beside(*stem, ".scales"),
                    .biases = files.beside(*stem, ".biases"),
                    .global_scale = files.beside(*stem, ".global_scale")};
  return Formed{codes.name, read(parts, std::string(*stem), files), parts.present()};
}

}  // namespace plumb
