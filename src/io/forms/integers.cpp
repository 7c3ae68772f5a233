// Integers of compressed-tensors: `int-quantized` (I8 codes under `weight`) and `pack-quantized`
// (compressors/pack_quantized: I32 words, least significant field first, each field offset by 2^(bits - 1), along the input;
// zero points likewise, but along the output).
#include <bit>
#include <string>

#include "io/decode.h"
#include "io/forms/families.h"
#include "io/forms/scaled.h"

namespace plumb {
namespace {

std::uint32_t word_at(std::span<const std::byte> bytes, std::size_t index) {
  std::uint32_t word = 0;
  for (std::size_t i = 0; i < 4; ++i)
    word |= std::to_integer<std::uint32_t>(bytes[4 * index + i]) << (8 * i);
  return word;
}

// Field `index` of a word of `32 / bits` fields, without its offset.
constexpr int field_of(std::uint32_t word, std::size_t index, int bits) {
  const std::uint32_t mask = (1U << bits) - 1U;
  return static_cast<int>((word >> (index * static_cast<std::size_t>(bits))) & mask) -
         (1 << (bits - 1));
}

template <int bits>
void decode_packed_row(std::span<const std::byte> bytes, std::span<double> out) {
  constexpr std::size_t kFields = 32 / bits;
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = field_of(word_at(bytes, i / kFields), i % kFields, bits);
}

void decode_i8_row(std::span<const std::byte> bytes, std::span<double> out) {
  decode(DType::kI8, bytes, out);
}

// [out, in] from `weight_shape`; nothing when it does not fit the words.
std::optional<Shape> true_shape(const StoredTensor& tensor, const Shape& words) {
  if ((tensor.dtype != DType::kI64 && tensor.dtype != DType::kI32) || tensor.shape != Shape{2})
    return std::nullopt;
  std::vector<double> axes(2);
  decode(tensor.dtype, tensor.bytes, axes);
  if (!(axes[0] == static_cast<double>(words[0])) || !(axes[1] >= 1) ||
      !(axes[1] <= 8 * static_cast<double>(words[1])) || axes[1] >= 0x1p52)
    return std::nullopt;
  return Shape{words[0], static_cast<std::int64_t>(axes[1])};
}

// The width of a field by how many words a row takes; 0 when neither fits, or both.
int bits_of(std::int64_t columns, std::int64_t words) {
  const bool four = (columns + 7) / 8 == words;
  const bool eight = (columns + 3) / 4 == words;
  return four == eight ? 0 : four ? 4 : 8;
}

bool other_widths(const nlohmann::json& settings) {
  for (const auto& group : settings.value("config_groups", nlohmann::json::object())) {
    if (!group.is_object()) continue;
    const auto weights = group.value("weights", nlohmann::json());
    if (!weights.is_object() || !weights.contains("num_bits")) continue;
    if (weights["num_bits"] != 4 && weights["num_bits"] != 8) return true;
  }
  return false;
}

// Rows [0, scales) of each column of words [ceil(rows / fields), groups].
Result<std::vector<std::int8_t>> packed_zeros(const FormFiles& files, const StoredTensor& zeros,
                                              const StoredTensor& scales, int bits) {
  const std::int64_t fields = 32 / bits;
  const std::int64_t groups = scales.shape.size() < 2 ? 1 : scales.shape[1];
  const std::int64_t rows = scales.shape.empty() ? 1 : scales.shape[0];
  if (zeros.dtype != DType::kI32 || zeros.shape != Shape{(rows + fields - 1) / fields, groups})
    return form_error(files, zeros, "does not fit scales of shape " + to_string(scales.shape));
  std::vector<std::int8_t> values;
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t group = 0; group < groups; ++group) {
      const auto word =
          word_at(zeros.bytes, static_cast<std::size_t>(row / fields * groups + group));
      values.push_back(
          static_cast<std::int8_t>(field_of(word, static_cast<std::size_t>(row % fields), bits)));
    }
  }
  return values;
}

Result<std::vector<std::int8_t>> plain_zeros(const FormFiles& files, const StoredTensor& zeros,
                                             const StoredTensor& scales) {
  if (zeros.dtype != DType::kI8 || zeros.shape != scales.shape)
    return form_error(files, zeros, "does not fit scales of shape " + to_string(scales.shape));
  std::vector<std::int8_t> values;
  for (const std::byte value : zeros.bytes)
    values.push_back(std::bit_cast<std::int8_t>(value));
  return values;
}

std::string format_of(int bits, const ScaleGrid& grid, std::int64_t columns, bool zeros) {
  return "INT" + std::to_string(bits) + ", " +
         (grid.row_block > 1             ? "per tensor"
          : grid.column_block == columns ? "per row"
                                         : "groups of " + std::to_string(grid.column_block)) +
         (zeros ? ", zero points" : "");
}

// The parameter with its `weight_scale` and, where there is one, `weight_zero_point`.
Formed integer_parameter(const std::string& name, std::string_view stem, const FormFiles& files,
                         ScaledParts parts, int bits, std::vector<const StoredTensor*> tensors) {
  const StoredTensor& codes = *tensors[0];
  const StoredTensor* scales = files.beside(stem, ".weight_scale");
  const StoredTensor* zeros = files.beside(stem, ".weight_zero_point");
  const StoredTensor* order = files.beside(stem, ".weight_g_idx");
  if (scales == nullptr) return without(name, files, codes, std::string(stem) + ".weight_scale");
  if (order != nullptr)
    return broken(name, form_error(files, *order, "orders columns, which is not supported"), codes);
  const auto grid = channel_grid(files, *scales, parts.shape);
  if (!grid.ok()) return broken(name, grid.error(), codes);
  parts.scales = grid.value();
  tensors.push_back(scales);
  if (zeros != nullptr) {
    auto values = codes.dtype == DType::kI8 ? plain_zeros(files, *zeros, *scales)
                                            : packed_zeros(files, *zeros, *scales, bits);
    if (!values.ok()) return broken(name, values.error(), codes);
    parts.zeros = std::move(values).value();
    tensors.push_back(zeros);
  }
  parts.format = format_of(bits, grid.value(), parts.shape[1], zeros != nullptr);
  return {name, scaled_weight(files, std::move(parts), tensors), tensors};
}

}  // namespace

std::optional<Formed> int8_form(const StoredTensor& codes, const FormFiles& files) {
  const auto stem = stem_of(codes.name, ".weight");
  if (!stem || codes.dtype != DType::kI8) return std::nullopt;
  if (files.beside(*stem, ".weight_scale") == nullptr) return std::nullopt;
  if (codes.shape.size() != 2)
    return broken(codes.name, form_error(files, codes, "is not a matrix"), codes);
  ScaledParts parts{.shape = codes.shape,
                    .format = "",
                    .codes = codes.bytes,
                    .row_bytes = static_cast<std::uint64_t>(codes.shape[1]),
                    .decode_row = decode_i8_row,
                    .scales = {},
                    .integers = PackedIntegers::kSigned8};
  return integer_parameter(codes.name, *stem, files, std::move(parts), 8, {&codes});
}

std::optional<Formed> packed_integer_form(const StoredTensor& codes, const FormFiles& files) {
  const auto stem = stem_of(codes.name, ".weight_packed");
  if (!stem || codes.dtype != DType::kI32) return std::nullopt;
  const std::string name = std::string(*stem) + ".weight";
  const StoredTensor* sizes = files.beside(*stem, ".weight_shape");
  if (sizes == nullptr) return without(name, files, codes, std::string(*stem) + ".weight_shape");
  if (codes.shape.size() != 2)
    return broken(name, form_error(files, codes, "is not a matrix"), codes);
  const auto shape = true_shape(*sizes, codes.shape);
  const int bits = shape ? bits_of((*shape)[1], codes.shape[1]) : 0;
  if (bits == 0 || other_widths(files.settings)) {
    return broken(
        name,
        form_error(files, codes,
                   "is not the words of 4-bit or 8-bit integers of \"" + sizes->name + "\""),
        codes);
  }
  ScaledParts parts{.shape = *shape,
                    .format = "",
                    .codes = codes.bytes,
                    .row_bytes = static_cast<std::uint64_t>(codes.shape[1]) * 4,
                    .decode_row = bits == 4 ? decode_packed_row<4> : decode_packed_row<8>,
                    .scales = {},
                    .integers = bits == 4 ? PackedIntegers::kOffset4 : PackedIntegers::kOffset8};
  return integer_parameter(name, *stem, files, std::move(parts), bits, {&codes, sizes});
}

}  // namespace plumb
