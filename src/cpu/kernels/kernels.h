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
#include <cstddef>
#include <cstdint>

namespace plumb::cpu {

// Rows of a weight that are stored interleaved, so that a vector holds one column of several rows.
inline constexpr int kPanelRows = 32;
// Columns whose products are summed before they join the total of a row.
inline constexpr int kChunk = 256;
// Columns of an int8 row that share a scale.
inline constexpr int kActivationGroup = 64;
// Columns of a row of 16-bit codes, of weights or activations, that share a scale.
inline constexpr int kInt16Block = 128;
// Keys of a block of attention. Blocks begin at multiples of it, counted from position 0.
inline constexpr int kKeyBlock = 64;

// How 32 rows are laid out. A unit is what covers the given columns of all 32 rows.
enum class PanelForm : std::uint8_t {
  kF32,   // 1 column: 32 floats
  kF16,   // 1 column: 32 halves
  kBF16,  // 2 columns: 32 pairs
  // kInt16Block columns (the last unit may have fewer): 32 float scales, then of each 2 columns 32 pairs of 16-bit codes; from rows
  // of bfloat16, or of halves
  kInt16OfBF16,
  kInt16OfF16,
  kFP8,   // 128 columns, the last unit maybe fewer: 32 float scales, 256 times what the file means, then for each column 32 codes E4M3
  kOffsetIntegers,  // as kIntegers, and behind the scales as many float offsets, which are added
  kQ8_0,  // 32 columns: 32 half scales, then 8 times 32 groups of 4 codes; a code is stored + 128
  kQ4_0,  // 32 columns: 32 half scales, then 4 times 32 groups of 4 bytes: columns 4 j, and 16 + 4 j in the high nibbles
  kQ4_1,  // 32 columns: 32 half scales, 32 half minima (which are added), then as kQ4_0
  kQ5_0,  // 32 columns: 32 half scales, 32 groups of 4 bytes, of which bit s of byte i is the fifth of column 4 s + i, then as kQ4_0
  kQ5_1,  // the same with 32 half minima behind the scales
  kQ4_K,  // 256 columns: 32 half d, 32 half dmin, 8 times 32 scales, 8 times 32 minima (bytes), then for each of 4 pairs of
          // 32 columns 8 times 32 groups of 4 bytes, the second 32 in the high nibbles
  kQ5_K,  // as kQ4_K, then 8 times 32 groups of 4 bytes: bit b is the fifth of columns 32 b + 4 j
  kQ6_K,  // 256 columns: 32 half d, 16 times 32 scales (int8), then for each half 16 times 32 groups of 4 bytes of low
          // nibbles and 8 times 32 groups of 4 bytes of high pairs of bits
  kMXFP4,   // 32 columns: 32 scales, each a byte that means half of 2^(byte - 127), 255 no number, then as kQ4_0, where a nibble chooses of E2M1 doubled
  kNVFP4,   // 32 columns: for each 16 of them 32 scales, each the eight bits of a half behind its sign, then as kMXFP4; behind all
            // columns 32 float factors
  kIQ4_NL,  // as kQ4_0, where a nibble chooses of sixteen values
  kIQ4_XS,  // 256 columns: 32 half d, 8 times 32 scales (bytes, 32 more than meant), then 8 times nibbles as of kIQ4_NL
  kQ2_K,    // 256 columns: 32 half d, 32 half dmin, 16 times 32 bytes, the scale in the low nibble, the minimum in the high one, then
            // for each half 8 times 32 groups of 4 bytes: bits 2 i of columns 32 i + 4 j
  kQ3_K,    // 256 columns: 32 half d, 16 times 32 scales (bytes, 32 more than meant), pairs of bits as of kQ2_K, then 8 times 32 groups
            // of 4 bytes: bit b is the third of columns 32 b + 4 j
  kTQ2_0,   // 256 columns: 32 half d, then pairs of bits as of kQ2_K
  kIntegers,  // 32 columns: for each 16 of them 32 float scales, then codes as of kQ8_0. For one product: it is larger than what it is of
};

// Columns of kFP8 that share a scale.
inline constexpr int kFp8Block = 128;

// Bytes of one panel, a multiple of 64.
constexpr std::size_t panel_bytes(PanelForm form, std::int64_t columns) {
  const auto n = static_cast<std::size_t>(columns);
  switch (form) {
    case PanelForm::kF32:
      return n * 128;
    case PanelForm::kF16:
      return n * 64;
    case PanelForm::kBF16:
      return (n + 1) / 2 * 128;
    case PanelForm::kInt16OfBF16:
    case PanelForm::kInt16OfF16:
      return (n + kInt16Block - 1) / kInt16Block * (kPanelRows * std::size_t{4}) + (n + 1) / 2 * 128;
    case PanelForm::kFP8:
      return (n + kFp8Block - 1) / kFp8Block * 128 + (n + 1) / 2 * 64;
    case PanelForm::kOffsetIntegers:
      return n / 32 * 1536;
    case PanelForm::kQ8_0:
      return n / 32 * 1088;
    case PanelForm::kQ4_0:
      return n / 32 * 576;
    case PanelForm::kQ4_1:
      return n / 32 * 640;
    case PanelForm::kQ5_0:
      return n / 32 * 704;
    case PanelForm::kQ5_1:
      return n / 32 * 768;
    case PanelForm::kQ4_K:
      return n / 256 * 4736;
    case PanelForm::kQ5_K:
      return n / 256 * 5760;
    case PanelForm::kQ6_K:
      return n / 256 * 6720;
    case PanelForm::kMXFP4:
      return (n / 32 * 544 + 63) / 64 * 64;
    case PanelForm::kNVFP4:
      return n / 32 * 576 + 128;
    case PanelForm::kIQ4_NL:
      return n / 32 * 576;
    case PanelForm::kIQ4_XS:
      return n / 256 * 4416;
    case PanelForm::kQ2_K:
      return n / 256 * 2688;
    case PanelForm::kQ3_K:
      return n / 256 * 3648;
    case PanelForm::kTQ2_0:
      return n / 256 * 2112;
    case PanelForm::kIntegers:
      return n / 32 * 1280;
  }
  return 0;
}

struct Panel {
  PanelForm form;
  const std::uint8_t* data;
  std::int64_t columns;
};

// 32 rows whose file holds scales beside the codes. Rows need no alignment.
struct ScaledRows {
  const std::uint8_t* const* codes;    // [kPanelRows]: a signed byte, one of E4M3, or two of E2M1, the first of them in the low nibble
  const std::uint8_t* const* scales;   // [kPanelRows]: of kMXFP4 E8M0, of kNVFP4 E4M3, of others floats, of kFP8 one for each unit
  const float* factors;                // [kPanelRows], of kNVFP4
  const std::uint8_t* const* offsets;  // [kPanelRows], of kOffsetIntegers: floats
  bool finite_powers = false;          // of kMXFP4: a scale of 255 is 2^128
};

// Rows of activations as int8: codes[t * stride + k] * scales[t * groups + k / kActivationGroup].
struct Int8Rows {
  std::int8_t* codes;
  float* scales;
  std::int32_t* sums;    // of each 16 codes
  std::int64_t stride;   // columns, rounded up to whole chunks; codes past the end are 0
};

// Where products of 32 rows go. What one chunk of columns leaves to the next is held apart, [tokens][32], so that it stays in the first-level
// cache; the last writes rows far apart while others are computed: copied afterwards they took a tenth of the time.
struct ProductRows {
  float* to;
  std::int64_t stride = kPanelRows;  // floats from token to token
  float* held = to;                  // may be `to` where its rows are 32 floats apart
};

// Rows of activations as codes of 16 bits: codes[t * stride + k] * scales[(t * stride + k) / kInt16Block].
struct Int16Rows {
  std::int16_t* codes;
  float* scales;
  std::int64_t stride;  // columns, rounded up to an odd number of blocks: rows a power of two apart would meet in few sets of the cache
};                      // codes past the end of a block that is not whole are 0

// In which type keys and values are kept. With q8_0, kCacheGroup channels of one position share a scale. kInt16 is no user's choice:
// it is what attend_int16 reads of a float32, codes of 16 bits and a scale for each position.
enum class CacheType : std::uint8_t { kF32, kF16, kBF16, kQ8_0, kInt16 };
inline constexpr int kCacheGroup = 32;

// Channels of a head as a block of kInt16 holds them, those past `dim` 0.
constexpr std::int64_t padded_channels(std::int64_t dim) {
  return (dim + 31) / 32 * 32;
}

// Bytes of one head's keys, or values, in a block: `dim` * kKeyBlock elements, then for q8_0 a half for each group, for kInt16 a
// float for each position.
constexpr std::int64_t cache_block_bytes(CacheType type, std::int64_t dim) {
  if (type == CacheType::kInt16) return (padded_channels(dim) * 2 + 4) * kKeyBlock;
  const std::int64_t element = type == CacheType::kF32 ? 4 : type == CacheType::kQ8_0 ? 1 : 2;
  const std::int64_t scales = type == CacheType::kQ8_0 ? (dim + kCacheGroup - 1) / kCacheGroup * 2 : 0;
  return (dim * element + scales) * kKeyBlock;
}

// Keys or values of one head and one position, on their way into a block.
struct KeepArguments {
  CacheType type;
  const float* x;       // [dim]
  std::int64_t dim;
  std::int64_t slot;    // in [0, kKeyBlock)
  // Keys: [dim][kKeyBlock], scales [groups][kKeyBlock]; else values: [kKeyBlock][dim], [kKeyBlock][groups]. Of kInt16 two channels
  // of a key lie beside each other, [dim / 2][kKeyBlock][2], and two keys of a channel, [kKeyBlock / 2][dim][2]; scales [kKeyBlock].
  bool by_channel;
  std::uint8_t* block;  // [cache_block_bytes(type, dim)]
};

struct AttendArguments {
  CacheType type;
  const float* const* queries;      // [vectors] each [key_dim]
  float* const* outputs;            // [vectors] each [value_dim]
  const std::int64_t* first;        // [vectors] the first key that is seen
  const std::int64_t* end;          // [vectors] one past the last
  const std::uint8_t* const* keys;    // by block: of this head, as KeepArguments lays them
  const std::uint8_t* const* values;  // by block
  const float* sinks;               // [vectors] or null
  std::int64_t vectors;
  std::int64_t key_dim;
  std::int64_t value_dim;
  float scale;
  float soft_cap;  // 0: none
  float* scratch;  // [attend_scratch(vectors, key_dim, value_dim)]
  // Null, or [vectors] each with room for `end` numbers, of which those that are seen are filled: what the softmax is taken
  // of, and what it yields.
  float* const* scores;
  float* const* probabilities;  // null where scores is
};

// Lanes of the widest vectors.
inline constexpr int kMostLanes = 16;
// Queries that meet a block one after the other: its keys, or its values, stay in the first-level cache meanwhile.
inline constexpr int kQueriesTogether = 32;

// Floats, with room to align each part to kMostLanes.
constexpr std::int64_t attend_scratch(std::int64_t vectors, std::int64_t key_dim, std::int64_t value_dim) {
  const std::int64_t keys = padded_channels(key_dim);
  const std::int64_t values = padded_channels(value_dim);
  constexpr std::int64_t kFixed = std::int64_t{2} * kQueriesTogether * kKeyBlock + std::int64_t{16} * kMostLanes;
  return kFixed + (keys + values) * kKeyBlock + vectors * (keys + values + kMostLanes + 2);
}

// One query against rows that are keys and values at once.
struct AttendRowsArguments {
  const float* query;             // [width]
  float* output;                  // [width]
  const float* const* rows;       // [count] each [width]
  std::int64_t count;
  std::int64_t width;
  float scale;
  const float* sink;    // or null
  float* probabilities;  // [count]; filled
  float* scores;         // [count]; filled, or null
};

enum class GateForm : std::uint8_t { kSilu, kGeluTanh };

struct Kernels {
  const char* name;
  int int8_dot;  // 1 where a sum of four products of bytes is one instruction

  // out[t][r] for 32 rows of a panel: sum_k w[r][k] x[t][k]; x rows are `x_stride` floats apart; out is [tokens][32].
  void (*multiply_float)(const Panel& panel, const float* x, std::int64_t x_stride,
                         std::int64_t tokens, float* out);
  // The same from int8 activations; the quantised forms only.
  void (*multiply_int8)(const Panel& panel, const Int8Rows& x, std::int64_t tokens, const ProductRows& out);
  // The same from 16-bit activations; kInt16OfBF16 and kInt16OfF16 only. Null where such products are no quicker than those of float32.
  void (*multiply_int16)(const Panel& panel, const Int16Rows& x, std::int64_t tokens, const ProductRows& out);
  // The same from activations rounded to bfloat16, [tokens][x_stride]; kBF16 only. Null where the instruction set has none.
  void (*multiply_bf16)(const Panel& panel, const std::uint16_t* x, std::int64_t x_stride,
                        std::int64_t tokens, float* out);
  // The same from activations as three terms of bfloat16, whose sum they are: [tokens][x_stride], in a row [3][columns rounded
  // up to whole chunks], 0 past the end. As exact as multiply_float; null where that is the quicker one.
  void (*multiply_split)(const Panel& panel, const std::uint16_t* x, std::int64_t x_stride,
                         std::int64_t tokens, float* out);
  // The panel of 32 stored rows, which need no alignment; `to` [panel_bytes(form, columns)].
  void (*pack)(PanelForm form, const std::uint8_t* const* rows, std::int64_t columns, std::uint8_t* to);
  // The same of rows with scales beside them: kMXFP4, kNVFP4, kFP8, integers.
  void (*pack_scaled)(PanelForm form, const ScaledRows& rows, std::int64_t columns, std::uint8_t* to);
  // Row `token` of `to` from x [columns].
  void (*quantise)(const float* x, std::int64_t columns, const Int8Rows& to, std::int64_t token);
  void (*quantise_int16)(const float* x, std::int64_t columns, const Int16Rows& to, std::int64_t token);  // null where multiply_int16 is
  void (*to_bf16)(const float* x, std::int64_t columns, std::int64_t stride, std::uint16_t* to);
  // Into three terms, `to` [3][stride].
  void (*split)(const float* x, std::int64_t columns, std::int64_t stride, std::uint16_t* to);
  void (*keep)(const KeepArguments& arguments);
  void (*attend)(const AttendArguments& arguments);
  // The same from integers of 13 to 16 bits, of a cache kInt16 alone. Null where their products are no quicker than those of float32.
  void (*attend_int16)(const AttendArguments& arguments);
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
extern const Kernels kAvxVnniKernels;
extern const Kernels kAvx512Kernels;
extern const Kernels kAvx512VnniKernels;
extern const Kernels kAmxKernels;
extern const Kernels kNeonKernels;

}  // namespace plumb::cpu
