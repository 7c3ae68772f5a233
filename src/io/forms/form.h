// Forms: parameters that a checkpoint stores as several tensors, codes with scales beside them. Each
// family of forms is a file of this folder; the table in forms.cpp names them all. Dispatch is per
// tensor, by its name's end, its dtype and the siblings that are present.
#pragma once
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "io/tensor_source.h"
#include "io/weight.h"

namespace plumb {

// What a form sees of a checkpoint.
struct FormFiles {
  std::shared_ptr<const TensorSource> source;
  // config.json's `quantization` (MLX) or `quantization_config`, an object; for what tensors cannot
  // say (a mode, overrides by layer), never for what they can.
  nlohmann::json settings;

  // The tensor `stem` + `suffix`; nothing when absent.
  const StoredTensor* beside(std::string_view stem, std::string_view suffix) const;
};

// A parameter made of stored tensors.
struct Formed {
  std::string name;  // as files without the form have it: "layers.0.q_proj.weight"
  Result<WeightPtr>
      weight;  // what is wrong with its tensors where they do not fit: named, and an error when it is taken
  std::vector<const StoredTensor*>
      parts;  // all that it reads or knowingly passes over, `codes` too
};

// The parameter whose codes `codes` holds; nothing when that tensor is not of this form. Called for every tensor of the files.
using FormReader = std::optional<Formed> (*)(const StoredTensor& codes, const FormFiles& files);

// All parameters of the checkpoint that have a form.
std::vector<Formed> formed_parameters(const FormFiles& files);

// Scales of activations and of the key-value cache, which exact arithmetic has no use for: files may hold them unread.
bool is_activation_scale(std::string_view name);

// `name` without `suffix`, where it ends so.
std::optional<std::string_view> stem_of(std::string_view name, std::string_view suffix);

// "FILE: the tensor "x.weight" of F8_E4M3 [4, 8] WHAT".
Error form_error(const FormFiles& files, const StoredTensor& tensor, const std::string& what);

// What the weights of all forms keep: their files, and what they say about themselves.
class FormWeight : public Weight {
 public:
  const Shape& shape() const final { return shape_; }
  std::string format() const final { return format_; }
  std::uint64_t stored_bytes() const final { return stored_bytes_; }

 protected:
  const TensorSource& source() const { return *source_; }
  FormWeight(const FormFiles& files, Shape shape, std::string format,
             const std::vector<const StoredTensor*>& parts);
  // A slice of the first axis.
  explicit FormWeight(const FormWeight& whole);

 private:
  std::shared_ptr<const TensorSource> source_;  // keeps the mapping
  Shape shape_;
  std::string format_;
  std::uint64_t stored_bytes_ = 0;
};

}  // namespace plumb
