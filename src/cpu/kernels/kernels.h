// The table of vector kernels. Each instruction set's file (avx2.cpp, …) compiles the same bodies
// (*.inc) with its own flags and fills one table; which one runs is decided at run time.
//
// Contract: every number that a kernel yields is computed in an order that depends on its own row
// (of a weight, of keys, of a token) alone, never on how many tokens, rows or keys come with it. So
// results are the same to the bit for every batch, chunk and thread count on one instruction set.
//
// Only plain C types cross this border: a function of the standard library that is compiled with
// AVX-512 in one of these files could be the copy that the linker keeps for the whole program.
#pragma once
#include <cstdint>

namespace plumb::cpu {

// Rows of a weight that are stored interleaved, so that a vector holds one column of several rows.
inline constexpr int kPanelRows = 32;
// Columns whose products are summed before they join the total of a row.
inline constexpr int kChunk = 256;
// Columns of an int8 row that share a scale.
inline constexpr int kActivationGroup = 64;
// Keys of a block of attention. Blocks begin at multiples of it, counted from position 0.
inline constexpr int kKeyBlock = 64;

// How 32 rows are laid out. A unit is what covers the given columns of all 32 rows.
enum class PanelForm : std::uint8_t {
  kF32,   // 1 column: 32 floats
  kF16,   // 1 column: 32 halves
  kBF16,  // 2 columns: 32 pairs
  kQ8_0,  // 32 columns: 32 half scales, then 8 times 32 groups of 4 codes; a code is stored + 128
  kQ4_0,  // 32 columns: 32 half scales, then 4 times 32 groups of 4 bytes: columns 4 j, and 16 + 4 j in the high nibbles
  kQ4_K,  // 256 columns: 32 half d, 32 half dmin, 8 times 32 scales, 8 times 32 minima (bytes), then for each of 4 pairs of
          // 32 columns 8 times 32 groups of 4 bytes, the second 32 in the high nibbles
  kQ6_K,  // 256 columns: 32 half d, 16 times 32 scales (int8), then for each half 16 times 32 groups of 4 bytes of low
          // nibbles and 8 times 32 groups of 4 bytes of high pairs of bits
};

struct Panel {
  PanelForm form;
  const std::uint8_t* data;
  std::int64_t columns;
};

// Rows of activations as int8: codes[t * stride + k] * scales[t * groups + k / kActivationGroup].
struct Int8Rows {
  std::int8_t* codes;
  float* scales;
  std::int32_t* sums;    // of each 16 codes
  std::int64_t stride;   // columns, rounded up to whole chunks; codes past the end are 0
};

struct AttendArguments {
  const float* const* queries;      // [vectors] each [key_dim]
  float* const* outputs;            // [vectors] each [value_dim]
  const std::int64_t* first;        // [vectors] the first key that is seen
  const std::int64_t* end;          // [vectors] one past the last
  const float* const* keys;         // by block: [key_dim][kKeyBlock] of this head
  const float* const* values;       // by block: [kKeyBlock][value_dim] of this head
  const float* sinks;               // [vectors] or null
  std::int64_t vectors;
  std::int64_t key_dim;
  std::int64_t value_dim;
  float scale;
  float soft_cap;  // 0: none
  float* scratch;  // [attend_scratch(value_dim)]
};

constexpr std::int64_t attend_scratch(std::int64_t value_dim) {
  return 8 * (kKeyBlock + value_dim);
}

// One query against rows that are keys and values at once.
struct AttendRowsArguments {
  const float* query;             // [width]
  float* output;                  // [width]
  const float* const* rows;       // [count] each [width]
  std::int64_t count;
  std::int64_t width;
  float scale;
  const float* sink;  // or null
  float* scratch;     // [count]
};

enum class GateForm : std::uint8_t { kSilu, kGeluTanh };

struct Kernels {
  const char* name;
  int int8_dot;  // 1 where a sum of four products of bytes is one instruction

  // out[t][r] for 32 rows of a panel: sum_k w[r][k] x[t][k]; x rows are `x_stride` floats apart; out is [tokens][32].
  void (*multiply_float)(const Panel& panel, const float* x, std::int64_t x_stride,
                         std::int64_t tokens, float* out);
  // The same from int8 activations; the quantised forms only.
  void (*multiply_int8)(const Panel& panel, const Int8Rows& x, std::int64_t tokens, float* out);
  // The same from activations rounded to bfloat16, [tokens][x_stride]; kBF16 only. Null where the instruction set has none.
  void (*multiply_bf16)(const Panel& panel, const std::uint16_t* x, std::int64_t x_stride,
                        std::int64_t tokens, float* out);
  // Row `token` of `to` from x [columns].
  void (*quantise)(const float* x, std::int64_t columns, const Int8Rows& to, std::int64_t token);
  void (*to_bf16)(const float* x, std::int64_t columns, std::int64_t stride, std::uint16_t* to);
  void (*attend)(const AttendArguments& arguments);
  void (*attend_rows)(const AttendRowsArguments& arguments);
  // y = x * 1 / sqrt(mean(x^2) + eps) * (weight + offset); weight may be null.
  void (*rms_norm)(const float* x, const float* weight, std::int64_t n, float eps, float offset,
                   float* y);
  // y = activation(gate) * up.
  void (*gated)(GateForm form, float slope, const float* gate, const float* up, std::int64_t n,
                float* y);
  // One token of the gated delta rule in its usual form; state [key_dim][value_dim].
  void (*delta_step)(const float* q, const float* k, const float* v, float keep, float beta,
                     std::int64_t key_dim, std::int64_t value_dim, float* state, float* out);
  float (*dot)(const float* a, const float* b, std::int64_t n);
  void (*add)(const float* a, const float* b, float factor, std::int64_t n, float* y);
};

extern const Kernels kPortableKernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
extern const Kernels kAvx512VnniKernels;
extern const Kernels kAvx512Bf16Kernels;

}  // namespace plumb::cpu
