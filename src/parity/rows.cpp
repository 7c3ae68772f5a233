// The catalogue of causes, beside the fields that they are: docs/causes.md has the same rows with their signatures and fixes.
// Rows 1 to 60 are specs/divergence.md's; from 61 on, DeepSeek-V4's conventions.
#include <algorithm>
#include <array>

#include "parity/hypothesis.h"

namespace plumb {
namespace {

const Range kEps{1e-12, 1e-1, true, false, {1e-5, 1e-6, 1e-8, 1e-12, 1e-3, 1e-4, 1e-7}};
const Range kTheta{1e1, 1e9, true, false, {1e4, 1e6, 5e5, 1e5, 1e7, 1.5e5, 1.6e5, 2e6, 5e6, 1e3}};
const Range kFactor{1e-3, 1e3, true, false, {1, 2, 4, 8, 16, 32, 64, 0.5, 0.25, 0.125}};
const Range kCap{1e-1, 1e4, true, false, {20, 30, 50, 100}};
// The least is one that small values reach: a number without effect says nothing of the others.
const Range kLimit{1e-1, 1e4, true, false, {0.1, 1, 7, 10, 20}};
const Range kScale{1e-4, 1e2, true, false, {1}};
const Range kOffset{-8, 8, false, true, {1, -1, 2, -2}};
const Range kLengths{1, 1e7, true, false, {2048, 4096, 8192, 32768, 65536, 131072}};
const Range kSlope{0.5, 3, false, false, {1, 1.702, 2}};

const std::vector<FieldCause>& causes() {
  static const std::vector<FieldCause> all = {
      {"embed", "scale", "27", "the embedding's scale is wrong", kScale},
      {"embed", "scale_precision", "27", "the embedding's scale is rounded to another type",
       std::nullopt},
      {"norm", "eps", "21", "the norm's epsilon is wrong", kEps},
      {"norm", "eps_place", "22", "the norm's epsilon is added outside the square root",
       std::nullopt},
      {"norm", "weight_offset", "23",
       "the norm's weight is w where the checkpoint means 1 + w, or the reverse",
       Range{0, 1, false, true, {0, 1}}},
      {"norm", "centre", "24", "the norm subtracts the mean (LayerNorm for RMSNorm), or should",
       std::nullopt},
      {"norm", "span", "39",
       "the norm runs over each head where it should run over all of them, or the reverse",
       std::nullopt},
      {"norm", "rounding", "25", "the norm's weight multiplies before the down-cast, or after",
       std::nullopt},
      {"linear", "bias", "18", "the projection's bias is not added", std::nullopt},
      {"linear", "order", "13", "the square weight is used transposed", std::nullopt},
      {"rope", "pairing", "30",
       "the rotated pairs are wrong: neighbours (2i, 2i+1) against halves (i, i + dims/2)",
       std::nullopt},
      {"rope", "slice", "34", "the rotation acts on the wrong end of each head", std::nullopt},
      {"rope", "direction", "64", "the rotation turns the wrong way", std::nullopt},
      {"rope", "dims", "34", "the wrong number of channels is rotated",
       Range{2, 1024, false, true, {}}},
      {"rope", "frequencies.scaling", "32", "the rotary scaling is not applied, or is another one",
       std::nullopt},
      {"rope", "frequencies.theta", "31", "the rotary base is wrong", kTheta},
      {"rope", "frequencies.factor", "32", "the rotary scaling's factor is wrong", kFactor},
      {"rope", "frequencies.original_length", "32", "the rotary scaling's original length is wrong",
       kLengths},
      {"rope", "frequencies.low_freq_factor", "32", "the rotary scaling's low_freq_factor is wrong",
       kFactor},
      {"rope", "frequencies.high_freq_factor", "32",
       "the rotary scaling's high_freq_factor is wrong", kFactor},
      {"rope", "frequencies.beta_fast", "32", "YaRN's beta_fast is wrong", kFactor},
      {"rope", "frequencies.beta_slow", "32", "YaRN's beta_slow is wrong", kFactor},
      {"rope", "frequencies.truncate", "32",
       "YaRN's correction range is rounded to whole dims, or should be", std::nullopt},
      {"rope", "attention_factor", "33", "the factor on cos and sin is wrong",
       Range{0.1, 10, true, false, {1}}},
      {"rope", "position_offset", "36", "positions are shifted", kOffset},
      {"attend", "scale", "40", "the attention scores are scaled wrongly", kScale},
      {"attend", "groups", "17",
       "key-value heads are tiled over query heads where each should be repeated, or the reverse",
       std::nullopt},
      {"attend", "window", "42", "the attention window holds another number of keys",
       Range{1, 1e6, false, true, {}}},
      {"attend", "soft_cap", "41", "the attention scores' soft cap is missing or wrong", kCap},
      {"attend", "sinks", "45", "the attention sinks are left out", std::nullopt},
      {"attend", "future", "44", "the causal mask is off by one",
       Range{-1, 1e6, false, true, {1, -1, 2, 3, 1e6}}},
      {"gated", "activation", "49", "the activation function is another", std::nullopt},
      {"gated", "limit", "50", "the gate's clamp is missing or wrong", kLimit},
      {"gated", "limit_sides", "50", "the gate's limit acts on other sides", std::nullopt},
      {"gated", "sigmoid_slope", "50", "the slope inside the gate's sigmoid is wrong", kSlope},
      {"gated", "up_offset", "50", "the constant added to the up projection is missing",
       Range{0, 1, false, true, {0, 1}}},
      {"add", "factor", "28", "the branch is multiplied before it joins the residual",
       Range{1e-3, 1e3, true, false, {0.5, 2}}},
      {"clamp", "limit", "50", "the clamp of queries, keys and values is missing or wrong", kLimit},
      {"router", "score", "52", "the router scores with another function", std::nullopt},
      // A softmax over the chosen experts is that over all of them renormalised, which is what engines mix up.
      {"router", "order", "51", "the router selects before it scores, or the reverse",
       std::nullopt, 0.1},
      {"router", "renormalise", "51",
       "the chosen experts' weights are renormalised where they should not be, or the reverse",
       std::nullopt},
      {"router", "scale", "52", "the routing weights are scaled wrongly", kFactor},
      {"router", "precision", "52", "the routing weights are rounded to another type",
       std::nullopt},
      {"experts", "gated.activation", "49", "the experts' activation function is another",
       std::nullopt},
      {"experts", "gated.limit", "50", "the experts' clamp is missing or wrong", kLimit},
      {"experts", "gated.limit_sides", "50", "the experts' limit acts on other sides", std::nullopt},
      {"experts", "gated.sigmoid_slope", "50", "the slope inside the experts' sigmoid is wrong",
       kSlope},
      {"experts", "gated.up_offset", "50",
       "the constant added to the experts' up projection is missing",
       Range{0, 1, false, true, {0, 1}}},
      {"convolution", "order", "55", "the convolution's taps are in reverse order", std::nullopt},
      {"convolution", "activation", "49", "the convolution's activation is another", std::nullopt},
      {"convolution", "activation_place", "55", "the activation comes before the convolution",
       std::nullopt},
      {"convolution", "window", "55",
       "the convolution remembers its outputs where it should remember its inputs", std::nullopt},
      {"l2_norm", "eps", "55", "the epsilon of the query and key normalisation is wrong", kEps},
      {"l2_norm", "eps_place", "55",
       "the epsilon of the query and key normalisation is added elsewhere", std::nullopt},
      {"l2_norm", "scale", "55", "the read-out scale is missing, doubled or on the wrong side",
       kScale},
      {"log_decay", "rate", "55", "the decay rate is exponentiated twice, or not at all",
       std::nullopt},
      {"delta_rule", "groups", "17",
       "key heads are tiled over value heads where each should be repeated, or the reverse",
       std::nullopt},
      {"delta_rule", "decay", "55", "the state decays after the write", std::nullopt},
      {"delta_rule", "read", "55", "the state is read before the write", std::nullopt},
      {"delta_rule", "strength", "55", "the write strength multiplies the key too", std::nullopt},
      {"delta_rule", "held", "55", "a write reads what the state holds before the decay, or never", std::nullopt},
      {"delta_rule", "state_precision", "55", "the recurrent state is held in a coarser type",
       std::nullopt},
      {"gated_norm", "norm.eps", "21", "the gated norm's epsilon is wrong", kEps},
      {"gated_norm", "norm.weight_offset", "23",
       "the gated norm's weight is w where the checkpoint means 1 + w, or the reverse",
       Range{0, 1, false, true, {0, 1}}},
      {"gated_norm", "norm.span", "39", "the gated norm runs over all heads together",
       std::nullopt},
      {"gated_norm", "activation", "49", "the gate's activation is another", std::nullopt},
      {"gated_norm", "place", "26", "the gate multiplies before the norm", std::nullopt},
      {"activate", "activation", "49", "the gate's activation is another", std::nullopt},
      {"attend_shared", "scale", "40", "the attention scores are scaled wrongly", kScale},
      {"attend_shared", "window", "42", "the attention window holds another number of tokens",
       Range{1, 1e6, false, true, {}}},
      {"attend_shared", "sinks", "45", "the attention sinks are left out", std::nullopt},
      {"attend_shared", "blocks.ahead", "62",
       "a compressed block becomes visible a token too early or too late",
       Range{-1e6, 1e6, false, true, {0, 1, 2}}},
      {"index", "blocks.ahead", "62",
       "a compressed block can be chosen a token too early or too late",
       Range{-1e6, 1e6, false, true, {0, 1, 2}}},
      {"index", "rectified", "63",
       "the indexer's products are not rectified before they are weighted", std::nullopt},
      {"index", "score_scale", "63", "the indexer's scores are scaled wrongly", kScale},
      {"compress", "position_bias", "65", "the compressor's position bias is left out",
       std::nullopt},
      {"compress", "before_first", "66",
       "the block before the first counts, where nothing stands there", std::nullopt},
      {"compress", "position", "67",
       "a compressed entry is rotated at another position than its block's first token",
       std::nullopt},
      {"hyper_connection", "iterations", "68",
       "the mixing matrix is balanced another number of times", Range{0, 64, false, true, {}}},
      {"hyper_connection", "start", "69", "the mixing matrix is balanced in another order",
       std::nullopt},
      {"hyper_connection", "eps", "70", "the hyper-connection's epsilon is wrong", kEps},
      {"hyper_connection", "norm_eps", "70", "the epsilon of the hyper-connection's norm is wrong",
       kEps},
      {"hyper_connection", "post_scale", "71",
       "the weight of the branch into the streams is not doubled, or should be",
       Range{0.25, 4, true, false, {1, 2}}},
      {"mix", "incoming", "72", "the mixing matrix is used transposed", std::nullopt},
      {"router", "selection_bias", "52",
       "the correction bias enters the weights, or does not enter the choice", std::nullopt},
      {"router", "sum_epsilon", "52", "the epsilon of the routing weights' sum is wrong", kEps},
      {"logits", "soft_cap", "56", "the logits' soft cap is missing or wrong", kCap},
      {"logits", "scale", "56", "the logits are scaled", kFactor},
  };
  return all;
}

}  // namespace

const FieldCause* find_cause(std::string_view operation, std::string_view field) {
  const auto& all = causes();
  const auto found = std::find_if(all.begin(), all.end(), [&](const FieldCause& cause) {
    return cause.operation == operation && cause.field == field;
  });
  return found == all.end() ? nullptr : &*found;
}

}  // namespace plumb
