// GGUF's block formats to numbers, bit for bit as the `gguf` package's quants.py: float32 arithmetic in its order.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/dtype.h"

namespace plumb {

// Decodes one block of `bytes` to `out`, info(dtype).block_elements values.
using BlockDecoder = void (*)(const std::byte* bytes, float* out);

// Nothing for plain types.
BlockDecoder block_decoder(DType dtype);

// blocks_kquants.cpp
void decode_q2_k(const std::byte* bytes, float* out);
void decode_q3_k(const std::byte* bytes, float* out);
void decode_q4_k(const std::byte* bytes, float* out);
void decode_q5_k(const std::byte* bytes, float* out);
void decode_q6_k(const std::byte* bytes, float* out);

// blocks_iquants.cpp
void decode_iq2_xxs(const std::byte* bytes, float* out);
void decode_iq2_xs(const std::byte* bytes, float* out);
void decode_iq2_s(const std::byte* bytes, float* out);
void decode_iq3_xxs(const std::byte* bytes, float* out);
void decode_iq3_s(const std::byte* bytes, float* out);
void decode_iq1_s(const std::byte* bytes, float* out);
void decode_iq1_m(const std::byte* bytes, float* out);
void decode_iq4_nl(const std::byte* bytes, float* out);
void decode_iq4_xs(const std::byte* bytes, float* out);

}  // namespace plumb
