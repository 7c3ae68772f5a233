// Numbers to stored elements: the plain types and the block formats that plumb writes.
//   std::vector<std::byte> bytes(*stored_size(DType::kQ4_K, row.size()));
//   quantise_row(DType::kQ4_K, row, bytes);
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/dtype.h"

namespace plumb {

// F32 F16 BF16, I32 (of whole numbers up to 2^24), Q8_0 Q4_0 Q4_1 Q5_0 Q5_1, Q4_K Q5_K Q6_K.
bool can_quantise(DType dtype);

// Encodes a row of finite numbers, whole blocks, of a type for which can_quantise() holds. The types of 32 elements are
// written bit for bit as the `gguf` package writes them; K-quants by a search (quantise_k.cpp).
void quantise_row(DType dtype, std::span<const float> row, std::span<std::byte> out);

// One block of 256, quantise_k.cpp.
void encode_q4_k(const float* values, std::uint8_t* out);
void encode_q5_k(const float* values, std::uint8_t* out);
void encode_q6_k(const float* values, std::uint8_t* out);

}  // namespace plumb
