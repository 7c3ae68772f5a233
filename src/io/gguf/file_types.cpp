// Which type each tensor of a file gets: llama.cpp, llama-quant.cpp (llama_tensor_get_type, without importance matrices).
#include "io/gguf/file_types.h"

namespace plumb {
namespace {

constexpr GgufFileType kTypes[] = {
    {"F32", 0, DType::kF32, false},     {"F16", 1, DType::kF16, false},
    {"BF16", 32, DType::kBF16, false},  {"Q8_0", 7, DType::kQ8_0, false},
    {"Q4_0", 2, DType::kQ4_0, false},   {"Q4_1", 3, DType::kQ4_1, false},
    {"Q5_0", 8, DType::kQ5_0, false},   {"Q4_K_M", 15, DType::kQ4_K, true},
    {"Q5_K_M", 17, DType::kQ5_K, true}, {"Q6_K", 18, DType::kQ6_K, false},
};

// Norms, biases, routers, convolutions and matrices of one row stay in float32, whatever the file's type.
bool stays_float(std::string_view name, const Shape& shape) {
  if (shape.size() < 2 || !name.ends_with("weight")) return true;
  if (shape.size() == 2 && shape[0] == 1) return true;
  for (const std::string_view part : {"_norm.weight", "ffn_gate_inp.weight", "ssm_conv1d"}) {
    if (name.find(part) != std::string_view::npos) return true;
  }
  return false;
}

bool contains(std::string_view name, std::string_view part) {
  return name.find(part) != std::string_view::npos;
}

// The first and last eighth of the layers, and every third between.
bool deserves_more_bits(std::int64_t position, std::int64_t layers) {
  return position < layers / 8 || position >= 7 * layers / 8 || (position - layers / 8) % 3 == 2;
}

// What takes a block type's place where its blocks do not divide the rows.
DType fallback(DType dtype, std::int64_t row) {
  if (row % info(dtype).block_elements == 0) return dtype;
  switch (dtype) {
    case DType::kQ4_K:
      return fallback(DType::kQ5_0, row);
    case DType::kQ5_K:
      return fallback(DType::kQ5_1, row);
    case DType::kQ6_K:
      return fallback(DType::kQ8_0, row);
    default:
      return DType::kF16;
  }
}

DType wanted(const GgufMixture& mixture, std::string_view name, std::int64_t row,
             std::int64_t position) {
  const DType main = mixture.type.main;
  const bool is_eight_experts = mixture.experts == 8;
  if (name == "output.weight" || (mixture.tied_embeddings && name == "token_embd.weight")) {
    return row % info(main).block_elements != 0 || main == DType::kQ8_0 ? DType::kQ8_0
                                                                        : DType::kQ6_K;
  }
  const bool more = mixture.type.more_bits && deserves_more_bits(position, mixture.layers);
  if (contains(name, "attn_v.weight") || contains(name, "attn_qkv.weight") ||
      contains(name, "attn_kv_b.weight")) {
    if (is_eight_experts) return DType::kQ8_0;
    return more ? DType::kQ6_K : main;
  }
  if (contains(name, "attn_k.weight")) return is_eight_experts ? DType::kQ8_0 : main;
  if (contains(name, "ffn_down")) return more ? DType::kQ6_K : main;
  if (contains(name, "attn_output.weight") && is_eight_experts && main == DType::kQ4_K)
    return DType::kQ5_K;
  return main;
}

}  // namespace

std::optional<GgufFileType> gguf_file_type(std::string_view name) {
  for (const GgufFileType& type : kTypes) {
    if (type.name == name) return type;
  }
  return std::nullopt;
}

std::string gguf_file_type_names() {
  std::string names;
  for (const GgufFileType& type : kTypes)
    names += (names.empty() ? "" : ", ") + std::string(type.name);
  return names;
}

DType gguf_tensor_type(const GgufMixture& mixture, std::string_view name, const Shape& shape,
                       std::int64_t position) {
  if (name.find("ffn_gate_tid2eid") != std::string_view::npos) return DType::kI32;
  if (stays_float(name, shape)) return DType::kF32;
  if (info(mixture.type.main).block_elements == 1) return mixture.type.main;
  return fallback(wanted(mixture, name, shape.back(), position), shape.back());
}

}  // namespace plumb
