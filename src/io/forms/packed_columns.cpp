// Rows of matrices that GPTQ and AWQ packed. A row of the weight is a column of the packed words.
#include "io/forms/packed_columns.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <utility>

#include "core/checked.h"
#include "io/decode.h"

namespace plumb {
namespace {

constexpr std::int64_t kWordBits = 32;
constexpr std::int64_t kAwqBits = 4;
// By column of eight: its nibble in the word (AutoAWQ packs the columns 0, 2, 4, 6, 1, 3, 5, 7 upwards).
constexpr std::array<std::int64_t, 8> kAwqNibble = {0, 4, 1, 5, 2, 6, 3, 7};

struct Packing {
  bool is_awq;
  std::int64_t bits;
  bool
      zeros_less_one;  // GPTQ's checkpoint_format "gptq": 1 was subtracted from each field of a word

  std::string text() const {
    return (is_awq ? "AWQ, " : "GPTQ, ") + std::to_string(bits) + " bits";
  }
};

struct Parts {
  const StoredTensor* qweight;
  const StoredTensor* qzeros;
  const StoredTensor* scales;
  const StoredTensor* g_idx;  // of GPTQ where present, else none

  std::vector<const StoredTensor*> present() const {
    std::vector<const StoredTensor*> all{qweight};
    for (const StoredTensor* part : {qzeros, scales, g_idx}) {
      if (part != nullptr) all.push_back(part);
    }
    return all;
  }
};

// Element (row, column) of an I32 matrix.
std::uint32_t word(const StoredTensor& matrix, std::int64_t row, std::int64_t column) {
  std::uint32_t value = 0;
  const auto index = static_cast<std::uint64_t>(row * matrix.shape[1] + column);
  std::memcpy(&value, matrix.bytes.subspan(index * sizeof(value), sizeof(value)).data(),
              sizeof(value));
  return value;
}

class PackedColumnsWeight final : public FormWeight {
 public:
  PackedColumnsWeight(const FormFiles& files, const Parts& parts, const Packing& packing,
                      const Shape& shape, std::vector<std::int32_t> group_of)
      : FormWeight(files, shape,
                   packing.text() + ", " + std::to_string(parts.scales->shape[0]) + " groups",
                   parts.present()),
        parts_(parts),
        packing_(packing),
        per_word_(kWordBits / packing.bits),
        group_of_(std::move(group_of)),
        in_runs_(are_in_runs(group_of_)) {
    // Word by word, as writers subtract: the carry of a field that was 0 before undoes its borrow.
    for (std::int64_t i = 0; packing.zeros_less_one && i < kWordBits; i += packing.bits)
      zero_step_ |= 1U << i;
  }

  void read_row(std::int64_t row, std::span<double> out) const override {
    const Groups groups = groups_of_row(row);
    const std::vector<std::uint8_t> packed = codes_of_row(row);
    for (std::size_t i = 0; i < out.size(); ++i) {
      const auto group = static_cast<std::size_t>(group_of_[i]);
      out[i] = groups.scales[group] * (packed[i] - groups.zeros[group]);
    }
  }

  bool has_integers() const override { return in_runs_; }
  void read_integers(std::int64_t row, std::span<std::int8_t> codes, std::span<float> scales, std::span<float> offsets) const override {
    const Groups groups = groups_of_row(row);
    const std::vector<std::uint8_t> packed = codes_of_row(row);
    for (std::size_t run = 0; run < scales.size(); ++run) {
      const auto group = static_cast<std::size_t>(group_of_[run * kRun]);
      // A difference of eight bits leaves a byte, so it is taken from the middle instead.
      const int zero = packing_.bits < 8 ? groups.zeros[group] : 128;
      scales[run] = static_cast<float>(groups.scales[group]);
      offsets[run] = static_cast<float>(groups.scales[group] * (zero - groups.zeros[group]));
      for (std::size_t i = run * kRun; i < (run + 1) * kRun; ++i)
        codes[i] = static_cast<std::int8_t>(packed[i] - zero);
    }
  }

 private:
  static constexpr std::size_t kRun = 16;  // elements that share a scale, as Weight::read_integers has them

  struct Groups {
    std::vector<double> scales;
    std::vector<int> zeros;
  };
  Groups groups_of_row(std::int64_t row) const {
    const std::int64_t count = parts_.scales->shape[0];
    Groups groups{std::vector<double>(static_cast<std::size_t>(count)), std::vector<int>(static_cast<std::size_t>(count))};
    const auto width = static_cast<std::uint64_t>(info(parts_.scales->dtype).block_bytes);
    for (std::int64_t g = 0; g < count; ++g) {
      const auto at = static_cast<std::uint64_t>(g * shape()[0] + row) * width;
      const auto group = static_cast<std::size_t>(g);
      decode(parts_.scales->dtype, parts_.scales->bytes.subspan(at, width), std::span(groups.scales).subspan(group, 1));
      groups.zeros[group] = field(word(*parts_.qzeros, g, row / per_word_) + zero_step_, row);
    }
    return groups;
  }

  std::vector<std::uint8_t> codes_of_row(std::int64_t row) const {
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(shape()[1]));
    const std::uint32_t mask = (1U << packing_.bits) - 1U;
    const auto words = static_cast<std::int64_t>(packing_.is_awq ? codes.size() : codes.size() / static_cast<std::size_t>(per_word_));
    const auto fields = static_cast<std::size_t>(packing_.is_awq ? 1 : per_word_);  // of a word that are of this row
    auto to = codes.begin();
    for (std::int64_t i = 0; i < words; ++i) {
      std::uint32_t left = word(*parts_.qweight, i, packing_.is_awq ? row / per_word_ : row) >> (packing_.is_awq ? shift_of(row) : 0);
      for (std::size_t k = 0; k < fields; ++k, left >>= packing_.bits)
        *to++ = static_cast<std::uint8_t>(left & mask);
    }
    return codes;
  }

  // Where the field of element `index` along the packed axis begins.
  std::int64_t shift_of(std::int64_t index) const {
    const std::int64_t place = index % per_word_;
    return packing_.is_awq ? kAwqBits * kAwqNibble[static_cast<std::size_t>(place)] : packing_.bits * place;
  }
  int field(std::uint32_t packed, std::int64_t index) const {
    return static_cast<int>((packed >> shift_of(index)) & ((1U << packing_.bits) - 1U));
  }

  // Whether each 16 elements of whole 32 share a scale; inputs that were sorted before they were grouped do not.
  static bool are_in_runs(const std::vector<std::int32_t>& group_of) {
    if (group_of.size() % (2 * kRun) != 0) return false;
    for (std::size_t i = 0; i < group_of.size(); ++i) {
      if (group_of[i] != group_of[i / kRun * kRun]) return false;
    }
    return true;
  }

  Parts parts_;
  Packing packing_;
  std::int64_t per_word_;
  std::vector<std::int32_t> group_of_;  // by input
  bool in_runs_;
  std::uint32_t zero_step_ = 0;
};

std::string text_of(const nlohmann::json& settings, const std::string& key) {
  const auto found = settings.find(key);
  return found != settings.end() && found->is_string() ? found->get<std::string>() : "";
}

// What the shapes leave open: GPTQ's two conventions for zero points, and layouts that only names tell apart.
Result<Packing> packing_of(const StoredTensor& qweight, bool is_awq, std::int64_t bits,
                           const FormFiles& files) {
  const std::string method = is_awq ? "awq" : "gptq";
  const auto unreadable = [&](const std::string& why) {
    return form_error(files, qweight, "has the shape of " + method + ", and " + why);
  };
  if (is_awq ? bits != kAwqBits : bits != 2 && bits != 4 && bits != 8)
    return unreadable(std::to_string(bits) + " bits, which cannot be read");
  if (const std::string said = text_of(files.settings, "quant_method"); said != method) {
    return unreadable("config.json's quantization_config has the quant_method \"" + said +
                      "\", not \"" + method + "\"");
  }
  std::string layout;
  if (is_awq) {
    layout = text_of(files.settings, "version");
    if (!layout.empty() && layout != "gemm" && layout != "GEMM")
      return unreadable("the version \"" + layout + "\", which cannot be read");
    return Packing{is_awq, bits, false};
  }
  for (const char* key : {"checkpoint_format", "format"}) {
    if (layout.empty()) layout = text_of(files.settings, key);
  }
  if (!layout.empty() && layout != "gptq" && layout != "gptq_v2")
    return unreadable("the checkpoint_format \"" + layout + "\", which cannot be read");
  return Packing{is_awq, bits, layout != "gptq_v2"};
}

// The group of each input: as g_idx says, else runs of group_size.
Result<std::vector<std::int32_t>> groups_of(const Parts& parts, std::int64_t inputs,
                                            const FormFiles& files) {
  const std::int64_t groups = parts.scales->shape[0];
  std::vector<std::int32_t> group_of(static_cast<std::size_t>(inputs));
  if (parts.g_idx != nullptr) {
    std::memcpy(group_of.data(), parts.g_idx->bytes.data(), parts.g_idx->bytes.size());
    for (const std::int32_t group : group_of) {
      if (group < 0 || group >= groups)
        return form_error(
            files, *parts.g_idx,
            "names the group " + std::to_string(group) + " of " + std::to_string(groups));
    }
    return group_of;
  }
  const auto said = files.settings.find("group_size");
  if (said == files.settings.end() || !said->is_number_integer()) {
    return form_error(files, *parts.qweight,
                      "has no g_idx, and config.json's quantization_config no \"group_size\"");
  }
  auto size = said->get<std::int64_t>();
  if (size == -1) size = std::max<std::int64_t>(inputs, 1);
  if (size < 1 || inputs / size + (inputs % size == 0 ? 0 : 1) != groups) {
    return form_error(files, *parts.scales,
                      "does not have a row for each group of " + std::to_string(size) + " of " +
                          std::to_string(inputs) + " inputs");
  }
  for (std::size_t i = 0; i < group_of.size(); ++i)
    group_of[i] = static_cast<std::int32_t>(static_cast<std::int64_t>(i) / size);
  return group_of;
}

Result<WeightPtr> read(const Parts& parts, const std::string& stem, const FormFiles& files) {
  const StoredTensor& qweight = *parts.qweight;
  for (const auto& [part, suffix] :
       {std::pair{parts.qzeros, ".qzeros"}, std::pair{parts.scales, ".scales"}}) {
    if (part == nullptr)
      return form_error(files, qweight, "cannot be read: \"" + stem + suffix + "\" is missing");
    if (part->shape.size() != 2) return form_error(files, *part, "is not a matrix");
  }
  if (qweight.shape.size() != 2 || qweight.dtype != DType::kI32)
    return form_error(files, qweight, "is not a matrix of I32 words");
  const StoredTensor& scales = *parts.scales;
  if (scales.dtype != DType::kF16 && scales.dtype != DType::kBF16 && scales.dtype != DType::kF32)
    return form_error(files, scales, "is not of F32, F16 or BF16");
  const std::int64_t outputs = scales.shape[1];
  const bool is_awq = qweight.shape[1] != outputs;
  const auto packed_bits =
      checked_mul(is_awq ? qweight.shape[1] : parts.qzeros->shape[1], kWordBits);
  if (outputs < 1 || !packed_bits || *packed_bits % outputs != 0)
    return form_error(files, qweight,
                      "is of " + std::to_string(outputs) + " outputs, says \"" + scales.name +
                          "\", which its words do not give");
  PLUMB_TRY(const Packing packing, packing_of(qweight, is_awq, *packed_bits / outputs, files));
  const std::int64_t per_word = kWordBits / packing.bits;
  const auto inputs =
      is_awq ? std::optional(qweight.shape[0]) : checked_mul(qweight.shape[0], per_word);
  const bool fits = inputs && *inputs <= INT32_MAX && parts.qzeros->dtype == DType::kI32 &&
                    parts.qzeros->shape == Shape{scales.shape[0], outputs / per_word};
  if (!fits) {
    return form_error(files, qweight,
                      "does not fit \"" + parts.qzeros->name + "\" of " +
                          std::string(to_string(parts.qzeros->dtype)) + " " +
                          to_string(parts.qzeros->shape) + " and \"" + scales.name + "\" " +
                          to_string(scales.shape));
  }
  const StoredTensor* g_idx = parts.g_idx;
  if (g_idx != nullptr &&
      (is_awq || g_idx->dtype != DType::kI32 || g_idx->shape != Shape{*inputs})) {
    return form_error(files, *g_idx,
                      "is not an I32 for each of GPTQ's " + std::to_string(*inputs) + " inputs");
  }
  const Shape shape{outputs, *inputs};
  if (!element_count(shape)) return form_error(files, qweight, "has too many elements");
  PLUMB_TRY(auto group_of, groups_of(parts, *inputs, files));
  return WeightPtr(
      std::make_shared<PackedColumnsWeight>(files, parts, packing, shape, std::move(group_of)));
}

}  // namespace

std::optional<Formed> packed_columns_form(const StoredTensor& codes, const FormFiles& files) {
  const auto stem = stem_of(codes.name, ".qweight");
  if (!stem) return std::nullopt;
  const Parts parts{.qweight = &codes,
                    .qzeros = files.beside(*stem, ".qzeros"),
                    .scales = files.beside(*stem, ".scales"),
                    .g_idx = files.beside(*stem, ".g_idx")};
  return Formed{std::string(*stem) + ".weight", read(parts, std::string(*stem), files),
                parts.present()};
}

}  // namespace plumb
