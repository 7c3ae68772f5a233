// The graph's vocabulary: what an architecture may say about a stage. Every value on which two
// engines could disagree is a field without a default; -Werror=missing-field-initializers makes
// leaving one out an error. The same fields are what the executors read, what `plumb show` prints,
// and what the diagnosis changes (specs/divergence.md, section 3: the row numbers).
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/shape.h"

namespace plumb {

enum class NormCentre : std::uint8_t { kNone, kMean };  // RMSNorm, or LayerNorm (row 24)
enum class NormSpan : std::uint8_t {
  kHead,
  kToken
};  // the last axis, or all of a token's axes (39)
enum class EpsPlace : std::uint8_t { kInsideRoot, kOutsideRoot };  // (22)
enum class Rounding : std::uint8_t {
  kBeforeWeight,
  kAfterWeight,
  kAfterFloat32Weight,  // as kAfterWeight, with a weight that is never cast to the activation dtype
  kFactor               // x times the rounded 1 / root; both of the activation dtype
};                      // where a norm returns to the activation dtype (25)
enum class WeightOrder : std::uint8_t {
  kOutIn,
  kInOut
};  // y = W x, or y = W^T x of a square W (13)
enum class RopePairing : std::uint8_t {
  kHalfSplit,
  kInterleaved
};  // dim i with i + dims/2, or 2i with 2i + 1 (30)
enum class RopeSlice : std::uint8_t { kFirst, kLast };  // which channels of a head rotate (34)
enum class RopeDirection : std::uint8_t { kForward, kInverse };
enum class RopeScaling : std::uint8_t {
  kNone,
  kLinear,
  kDynamic,
  kYarn,
  kLlama3,
  kLongrope,
  kDivisors
};  // (32)
enum class HeadGroups : std::uint8_t {
  kRepeat,
  kTile
};  // query head h reads kv head h / group, or h % kv_heads (17)
enum class Activation : std::uint8_t {
  kSilu,
  kSteppedSilu,
  kGeluTanh,
  kGeluErf,
  kRelu,
  kSigmoid
};  // stepped: slope * x, its sigmoid and their product are each rounded (49)
enum class RouterScore : std::uint8_t { kSoftmax, kSigmoid, kSqrtSoftplus };   // (52)
enum class RouterOrder : std::uint8_t { kScoreThenSelect, kSelectThenScore };  // (51)
enum class WeightPrecision : std::uint8_t {
  kActivation,
  kFloat32
};                                                            // the dtype of routing weights
enum class RouterChoice : std::uint8_t { kLargest, kTable };  // by score, or by the token's id
enum class SelectionBias : std::uint8_t {
  kNone,
  kChoice,
  kChoiceAndWeight
};  // what a bias of the experts' scores changes
enum class ExcludedScore : std::uint8_t {
  kMinusInfinity,
  kZero
};  // what an expert outside the chosen groups counts
enum class ScalePrecision : std::uint8_t {
  kActivation,
  kBfloat16,
  kFloat32
};  // the dtype of an embedding's scale (27)

enum class TapOrder : std::uint8_t {
  kNewestLast,
  kNewestFirst
};                                                              // where the current token's tap is
enum class ActivationPlace : std::uint8_t { kAfter, kBefore };  // of a convolution
enum class WindowHolds : std::uint8_t {
  kInputs,
  kOutputs,
  kNothing
};  // what a convolution remembers of earlier chunks
enum class L2Eps : std::uint8_t {
  kAddToSum,
  kAddToMean,
  kLeastNorm
};  // x / sqrt(sum + eps), x / sqrt(n (mean + eps)), or x / max(sqrt(sum), eps) (55)
enum class DecayRate : std::uint8_t {
  kMinusExp,
  kAsStored
};  // the rate is -exp(A) of the parameter, or the parameter
enum class DeltaForm : std::uint8_t { kRecurrent, kChunked };          // (55)
enum class DecayPlace : std::uint8_t { kBeforeWrite, kAfterWrite };    // of a recurrent state
enum class ReadPlace : std::uint8_t { kAfterWrite, kBeforeWrite };     // of a recurrent state
enum class WriteStrength : std::uint8_t {
  kOnValue,
  kOnValueAndKey,
  kOnValueAlone
};  // what beta multiplies: the value less what the state holds, the key as well, the value before it
enum class HeldRead : std::uint8_t {
  kAfterDecay,
  kBeforeDecay,
  kNever
};  // when a write reads what the state holds of its key; never: it adds the value alone
enum class GatePlace : std::uint8_t { kAfterNorm, kBeforeNorm };

enum class ClampSides : std::uint8_t {
  kGateAbove,
  kGateBoth,
  kUpAbove,
  kGateAlone,
  kUpAlone
};  // of a gate's limit: the gate from above and up on both sides; both on both; both from above; one of the two alone (50)

enum class StreamAxis : std::uint8_t {
  kFirst,
  kSecond
};  // the axis of a mixing matrix that runs over the streams that come in
enum class SinkhornStart : std::uint8_t { kColumns, kRows };  // what is divided first
enum class BlockPosition : std::uint8_t {
  kFirstToken,
  kLastToken,
  kIndex
};  // where a compressed entry stands for its rotation
enum class BeforeFirst : std::uint8_t {
  kAbsent,
  kZeros
};  // what stands for the block before the first: nothing, or values and scores of 0
enum class StoredAs : std::uint8_t { kE4m3, kE2m1 };

// The ids that are fed; the source of the embedding and of hash routing.
struct Tokens {};

// The position of each token, counted from 0 at the sequence's start.
struct Positions {};

struct Embed {
  double scale;  // (27)
  ScalePrecision scale_precision;
};

struct Norm {
  double eps;  // (21)
  EpsPlace eps_place;
  double weight_offset;  // 0, or 1 where the checkpoint stores w of (1 + w) (23)
  NormCentre centre;
  NormSpan span;
  Rounding rounding;
};

struct Linear {
  Shape out;  // shape of one token's output, such as {heads, head_dim}
  bool bias;  // (18)
  WeightOrder order;
  WeightPrecision result;  // the dtype of y
};

// inv_freq[i] = theta^(-2i/dims), then scaled; graph/rope.h computes it. Fields that a scaling does
// not use are 0 or empty.
struct RopeFrequencies {
  RopeScaling scaling;
  double theta;  // (31)
  double factor;
  double original_length;  // tokens; yarn, llama3 and longrope: of the pre-training; dynamic:
                           // max_position_embeddings
  double low_freq_factor;  // llama3
  double high_freq_factor;
  double beta_fast;  // yarn, rotations
  double beta_slow;
  bool truncate;                     // yarn: the ramp's ends are rounded to whole dims
  std::vector<double> short_factor;  // longrope, up to original_length tokens
  std::vector<double> long_factor;   // longrope, beyond
  std::vector<double>
      divisors;  // kDivisors: inv_freq[i] is divided by divisors[i] (GGUF's rope_freqs)
};

struct Rope {
  RopePairing pairing;
  RopeSlice slice;
  RopeDirection direction;
  std::int64_t dims;  // rotated channels of each head; the rest passes through (34)
  RopeFrequencies frequencies;
  double attention_factor;       // multiplies cos and sin; 1 unless the scaling says otherwise (33)
  std::int64_t position_offset;  // added to every position; 0 (36)
  WeightPrecision arithmetic;    // the dtype of the products of x with cos and sin
  WeightPrecision tables;        // the dtype of cos and sin
};

struct Attend {
  double scale;  // (40)
  HeadGroups groups;
  std::optional<std::int64_t> window;  // keys visible, the query's own included; none: all (42, 43)
  std::optional<double> soft_cap;      // cap * tanh(score / cap) before the mask (41)
  bool sinks;  // a weight [heads] joins each softmax without a value; scores lose their largest,
               // rounded, before it (45)
  std::int64_t future;  // keys visible beyond the query's position; 0 in a causal model (44)
};

// Blocks of compressed entries beside the window's tokens. Block b stands for the tokens from
// b * ratio to (b + 1) * ratio - 1; a query at position t may see it when b < (t + ahead) / ratio.
struct Blocks {
  std::int64_t ratio;  // tokens
  std::int64_t ahead;  // 1: a block is visible from its own last token on
};

// Attention in which a key is its own value, and one key serves all heads: the last `window` tokens,
// the query's own included, then the blocks that are visible or, where an operand chooses, chosen.
struct AttendShared {
  double scale;
  std::int64_t window;
  bool sinks;  // a float32 parameter [heads] joins each softmax without a value, unscaled
  std::optional<Blocks> blocks;
  bool chosen;
};

// One entry for each complete block: the sum over its tokens of value * softmax(score), each channel
// on its own. With overlap each token has two halves: the first counts in the block after its own, the
// second in its own, so that an entry is made of two blocks' tokens.
struct Compress {
  std::int64_t ratio;  // tokens
  bool overlap;
  bool position_bias;  // a float32 parameter [ratio, channels] is added to the scores
  BeforeFirst before_first;
  BlockPosition position;
};

// All rows so far, in the order in which they came.
struct Collect {};

// The blocks of the largest scores among those visible, the lowest of equals first; -1 where there
// are fewer. The score of a block is the sum over heads of weight * activation(query . entry).
struct Index {
  Blocks blocks;
  std::int64_t chosen;
  bool rectified;      // relu of each product
  double score_scale;  // multiplies it
  double weight_scale;
};

// The same row for each stream: [channels] to [copies, channels].
struct Repeat {
  std::int64_t copies;
};

// The weights of manifold-constrained hyper-connections, https://arxiv.org/abs/2512.24880, all in
// float32: m = fn . norm(streams) * scale + base, of which pre = sigmoid(m) + eps,
// post = post_scale * sigmoid(m), comb = softmax of each row + eps, then rows and columns divided
// by their sums + eps in turn. Only pre where `mixes` is off.
struct HyperConnection {
  std::int64_t streams;
  bool mixes;
  double norm_eps;  // of the norm without a weight over all channels of all streams
  double eps;
  double post_scale;
  std::int64_t iterations;  // the softmax counts as the first division of rows
  SinkhornStart start;
};

// sum over streams of pre[j] * stream[j].
struct Collapse {};

// stream'[k] = post[k] * branch + sum over j of comb[j][k] * stream[j].
struct Mix {
  StreamAxis incoming;  // kFirst: comb[j][k], kSecond: comb[k][j]
};

// Block diagonal: group g of the outputs reads group g of the inputs.
struct GroupedLinear {
  Shape out;
  std::int64_t groups;
};

// x as a narrow format returns it: blocks of channels share a power of two as scale, such that the
// largest magnitude, at least `floor`, fits.
struct Narrow {
  StoredAs format;
  std::int64_t channels;  // of the last axis, from the first on; the rest passes through
  std::int64_t block;
  double floor;
};

// x times the orthonormal Hadamard matrix in Sylvester's order, along the last axis.
struct Hadamard {};

// activation(gate) * up. gpt-oss: gate = min(gate, limit), up = clamp(up, -limit, limit), gate *
// sigmoid(slope * gate) * (up + 1).
struct Gated {
  Activation activation;
  std::optional<double> limit;  // (50)
  ClampSides limit_sides;
  double sigmoid_slope;         // x * sigmoid(slope * x): 1 for silu; unused by the others
  double up_offset;             // 0, or 1 in gpt-oss
};

// Each element through the function; rounded once.
struct Activate {
  Activation activation;
};

// Some channels of each group. A token's channels are `groups` equal groups, from each of which
// count(out) / groups consecutive channels are taken. With one group for each head, a projection
// that yields [query | gate] for every head falls apart into the two.
struct Slice {
  Shape out;
  std::int64_t groups;
  std::int64_t first;  // channel of a group
};

// The channels of all inputs, one input after another.
struct Concat {};

// The channels of all inputs of each head, one input after another; an input of one head joins
// every head.
struct JoinHeads {};

// Each channel's own weighted sum over the last `taps` tokens, absent ones being 0 (a causal
// depthwise convolution).
struct Convolution {
  std::int64_t taps;
  TapOrder order;
  Activation activation;
  ActivationPlace activation_place;
  WindowHolds window;
  bool bias;
};

// scale * x / |x| along the last axis.
struct L2Norm {
  double eps;
  L2Eps eps_place;
  double scale;
  WeightPrecision precision;  // the dtype of the result
};

// rate * softplus(x + offset) for each head: the logarithm of what a recurrent state keeps. The
// parameters are A [heads] and offset [heads].
struct LogDecay {
  DecayRate rate;
  ScalePrecision rate_precision;  // the dtype in which A is held
  WeightPrecision sum_precision;  // the dtype of x + offset
};

// The gated delta rule, https://arxiv.org/abs/2412.06464. For each value head, with its state
// S [key_dim, value_dim]: S *= exp(g); d = beta (v - S^T k); S += k d^T; out = S^T q. The chunked
// form computes the same for `chunk` tokens at a time by solving a triangular system; it has the
// other fields' first values.
struct DeltaRule {
  DeltaForm form;
  std::int64_t chunk;  // tokens; of the chunked form
  HeadGroups groups;   // which key head a value head reads
  DecayPlace decay;
  ReadPlace read;
  WriteStrength strength;
  HeldRead held;
  ScalePrecision state_precision;
};

// norm(x) * activation(gate), or norm(x * activation(gate)).
struct GatedNorm {
  Norm norm;
  Activation activation;
  GatePlace place;
  WeightPrecision gate_precision;  // the dtype of activation(gate)
};

// x + factor * branch.
struct Add {
  double factor;  // (28)
};

// Each element into [-limit, limit] (OLMo's clip_qkv).
struct Clamp {
  double limit;
};

// Experts are chosen from the best groups only. A group's score is the sum of its largest.
struct ExpertGroups {
  std::int64_t groups;
  std::int64_t chosen;   // groups
  std::int64_t largest;  // scores of a group that count
  ExcludedScore excluded;
};

struct Router {
  std::int64_t experts;
  std::int64_t chosen;  // per token
  RouterChoice choice;  // kTable: a parameter [vocab, chosen] lists each token's experts
  RouterScore score;
  RouterOrder order;
  SelectionBias selection_bias;  // with one, a float32 parameter [experts] is added to the scores
  std::optional<ExpertGroups> groups;
  bool renormalise;            // the chosen weights are divided by their sum (51)
  double sum_epsilon;          // added to that sum
  double scale;                // multiplies the weights at the end
  WeightPrecision arithmetic;  // the dtype of the scores and of each step from them to the weights
  WeightPrecision precision;
};

// sum over the chosen experts e of weight_e * down_e(activation(gate_e x) * up_e x); added in
// ascending order of e.
struct Experts {
  std::int64_t experts;
  std::int64_t width;  // of one expert's hidden layer
  Gated gated;
  bool bias;  // added to the rounded product, inside the weighting (53)
};

struct Logits {
  std::optional<double> soft_cap;  // (56)
  double scale;
};

using Operation =
    std::variant<Tokens, Positions, Embed, Norm, Linear, Rope, Attend, Gated, Activate, Slice,
                 Concat, JoinHeads, Convolution, L2Norm, LogDecay, DeltaRule, GatedNorm, Add, Clamp,
                 Router, Experts, AttendShared, Compress, Collect, Index, Repeat, HyperConnection,
                 Collapse, Mix, GroupedLinear, Narrow, Hadamard, Logits>;

}  // namespace plumb
