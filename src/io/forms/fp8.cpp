// FP8: E4M3 codes under the name `weight`. Scales are `weight_scale_inv` or `.scale` (DeepSeek: blocks of 128x128, a factor in
// spite of the name) or `weight_scale` (compressed-tensors, quantization/quant_args.py; ModelOpt): [] or [1] for the tensor,
// [out, 1] for each row, [out, groups], or a grid of blocks.
#include <string>

#include "io/decode.h"
#include "io/forms/families.h"
#include "io/forms/scaled.h"

namespace plumb {
namespace {

constexpr std::int64_t kBlock = 128;

struct BlockSize {
  std::int64_t rows = kBlock;
  std::int64_t columns = kBlock;
};

std::optional<BlockSize> block_of(const nlohmann::json& value) {
  if (!value.is_array() || value.size() != 2) return std::nullopt;
  for (const auto& size : value) {
    if (!size.is_number_integer() || size < 1 || size > (1 << 20)) return std::nullopt;
  }
  return BlockSize{value[0].get<std::int64_t>(), value[1].get<std::int64_t>()};
}

// What a grid alone cannot say: several sizes of block give the same number of partial blocks.
BlockSize block_size(const nlohmann::json& settings) {
  if (const auto size = block_of(settings.value("weight_block_size", nlohmann::json())))
    return *size;
  for (const auto& group : settings.value("config_groups", nlohmann::json::object())) {
    if (!group.is_object()) continue;
    const auto weights = group.value("weights", nlohmann::json());
    if (!weights.is_object()) continue;
    if (const auto size = block_of(weights.value("block_structure", nlohmann::json())))
      return *size;
  }
  return {};
}

std::int64_t blocks_of(std::int64_t size, std::int64_t block) {
  return size / block + (size % block != 0 ? 1 : 0);
}

void decode_e4m3_row(std::span<const std::byte> bytes, std::span<double> out) {
  decode(DType::kF8E4M3, bytes, out);
}

}  // namespace

std::optional<Formed> fp8_form(const StoredTensor& codes, const FormFiles& files) {
  const auto stem = stem_of(codes.name, ".weight");
  if (!stem || codes.dtype != DType::kF8E4M3) return std::nullopt;
  const StoredTensor* scales = files.beside(*stem, ".weight_scale_inv");
  if (scales == nullptr) scales = files.beside(*stem, ".scale");
  const bool in_blocks = scales != nullptr;
  if (scales == nullptr) scales = files.beside(*stem, ".weight_scale");
  if (scales == nullptr) return std::nullopt;  // the error of all codes without scales
  if (codes.shape.size() != 2)
    return broken(codes.name, form_error(files, codes, "is not a matrix"), codes);

  const BlockSize block = block_size(files.settings);
  const Shape grid = {blocks_of(codes.shape[0], block.rows),
                      blocks_of(codes.shape[1], block.columns)};
  const bool is_grid = scales->shape == grid;
  if (in_blocks && !is_grid) {
    return broken(codes.name,
                  form_error(files, *scales,
                             "does not have the " + to_string(grid) + " blocks of " +
                                 std::to_string(block.rows) + "x" + std::to_string(block.columns) +
                                 " of a weight of shape " + to_string(codes.shape)),
                  codes);
  }
  const auto scale = is_grid ? scale_grid(files, *scales, block.rows, block.columns)
                             : channel_grid(files, *scales, codes.shape);
  if (!scale.ok()) return broken(codes.name, scale.error(), codes);
  const std::string unit =
      is_grid ? std::to_string(block.rows) + "x" + std::to_string(block.columns) + " blocks"
      : scale.value().row_block > 1                  ? "per tensor"
      : scale.value().column_block == codes.shape[1] ? "per row"
                                                     : "in groups";
  ScaledParts parts{.shape = codes.shape,
                    .format = "FP8 E4M3, " + unit + ", " +
                              std::string(to_string(scale.value().dtype)) + " scales",
                    .codes = codes.bytes,
                    .row_bytes = static_cast<std::uint64_t>(codes.shape[1]),
                    .decode_row = decode_e4m3_row,
                    .scales = scale.value(),
                    .kind = ScaledCodes::kE4M3};
  const std::vector<const StoredTensor*> tensors = {&codes, scales};
  return Formed{codes.name, scaled_weight(files, std::move(parts), tensors), tensors};
}

}  // namespace plumb
