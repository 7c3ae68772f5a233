// The table of forms, and what they share.
#include <utility>

#include "io/forms/families.h"
#include "io/forms/form.h"
#include "io/forms/mlx.h"
#include "io/forms/packed_columns.h"

namespace plumb {
namespace {

// Codes whose scales are nowhere, or of no form of the table: an error rather than a scale of one. The last of the table.
std::optional<Formed> unscaled_form(const StoredTensor& codes, const FormFiles& files) {
  const auto stem = stem_of(codes.name, ".weight");
  switch (codes.dtype) {
    case DType::kF8E4M3:
    case DType::kF8E5M2:
      // Codes under any name, but for scales, which NVFP4 stores in E4M3.
      if (!stem && (codes.shape.size() < 2 || codes.name.ends_with("scale"))) return std::nullopt;
      break;
    case DType::kI8:
    case DType::kU8:
    case DType::kI32:
    case DType::kU32:
      if (!stem) return std::nullopt;
      break;
    default:
      return std::nullopt;
  }
  const std::string name = "\"" + std::string(stem.value_or(codes.name));
  return Formed{codes.name,
                form_error(files, codes,
                           "holds codes, and no scales of a known form are beside it, such as " +
                               name + ".weight_scale_inv\", " + name + ".weight_scale\", " + name +
                               ".scale\" or " + name + ".scales\""),
                {&codes}};
}

// compressed-tensors' transforms rotate activations while the model runs (transform/transform_config.py).
bool has_transforms(const nlohmann::json& settings) {
  const auto transforms = settings.find("transform_config");
  if (transforms == settings.end() || !transforms->is_object()) return false;
  const auto groups = transforms->find("config_groups");
  return groups != transforms->end() && !groups->empty();
}

// The first that fits is taken.
constexpr FormReader kForms[] = {
    fp8_form,
    gpt_oss_mxfp4_form,
    deepseek_mxfp4_form,
    modelopt_nvfp4_form,
    packed_fp4_form,
    int8_form,
    packed_integer_form,
    mlx_form,
    packed_columns_form,
    unscaled_form,
};

constexpr std::string_view kActivationScales[] = {
    ".input_scale",      ".input_global_scale",
    ".input_zero_point", ".output_scale",
    ".k_scale",          ".v_scale",
    ".q_scale",
};

}  // namespace

const StoredTensor* FormFiles::beside(std::string_view stem, std::string_view suffix) const {
  return source->find(std::string(stem) + std::string(suffix));
}

std::vector<Formed> formed_parameters(const FormFiles& files) {
  const bool rotated = has_transforms(files.settings);
  std::vector<Formed> all;
  for (const StoredTensor& tensor : files.source->tensors()) {
    for (const FormReader form : kForms) {
      if (auto formed = form(tensor, files)) {
        if (rotated && formed->weight.ok()) {
          formed->weight =
              form_error(files, tensor,
                         "belongs to \"transform_config\" of config.json, which is not supported");
        }
        all.push_back(*std::move(formed));
        break;
      }
    }
  }
  return all;
}

bool is_activation_scale(std::string_view name) {
  for (const std::string_view suffix : kActivationScales) {
    if (name.ends_with(suffix)) return true;
  }
  return false;
}

std::optional<std::string_view> stem_of(std::string_view name, std::string_view suffix) {
  if (!name.ends_with(suffix)) return std::nullopt;
  return name.substr(0, name.size() - suffix.size());
}

Error form_error(const FormFiles& files, const StoredTensor& tensor, const std::string& what) {
  return {ErrorCode::kCorrupt, files.source->where() + ": the tensor \"" + tensor.name + "\" of " +
                                   std::string(to_string(tensor.dtype)) + " " +
                                   to_string(tensor.shape) + " " + what};
}

FormWeight::FormWeight(const FormFiles& files, Shape shape, std::string format,
                       const std::vector<const StoredTensor*>& parts)
    : source_(files.source), shape_(std::move(shape)), format_(std::move(format)) {
  for (const StoredTensor* part : parts)
    stored_bytes_ += part->bytes.size();
}

FormWeight::FormWeight(const FormWeight& whole)
    : source_(whole.source_),
      shape_(whole.shape_.begin() + 1, whole.shape_.end()),
      format_(whole.format_),
      stored_bytes_(whole.stored_bytes_ / static_cast<std::uint64_t>(whole.shape_[0])) {}

}  // namespace plumb
