// Pieces that many architectures share, each a few recorded stages under the names of
// trace-format.md. An architecture that differs in an order or a convention records its own stages
// instead; nothing here asks which architecture it serves.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

#include "graph/builder.h"

namespace plumb {

// transformers' LlamaRMSNorm: the normalised value returns to the activation dtype before the
// weight multiplies it.
Norm rms_norm(double eps);

// Rotation of whole heads in half-split pairs with the frequencies of `parameters`
// (LlamaRotaryEmbedding).
Rope half_split_rope(const Config& c, const RopeParameters& parameters);

// The rotation of layers of this type, where the file gives each type its own parameters; else the
// one rotation of all layers.
Rope layer_rope(const Config& c, std::string_view layer_type);

// The gate that hidden_act names: "silu", "gelu", "gelu_pytorch_tanh", "relu".
Gated gate_of(const Config& c);

// A projection without surprises: y = W x.
Linear projection(Shape out, bool bias);

// A softmax over all experts in float32, of which the largest are chosen (Qwen3MoeTopKRouter).
Router softmax_router(std::int64_t experts, std::int64_t chosen, bool renormalise,
                      WeightPrecision precision);

// Grouped-query attention to the past with scale head_dim^-0.5 (LlamaAttention).
Attend causal_attend(const Config& c, std::optional<std::int64_t> window);

struct SelfAttention {
  bool qkv_bias;
  bool out_bias;
  std::optional<Norm> qk_norm;  // of queries and keys, before the rotation
  std::optional<Clamp> clip;    // of queries, keys and values, after the norms
  std::optional<Rope> rope;
  Attend attend;  // sinks are the weight self_attn.sinks
};

// From the normalised input to the output projection.
Value self_attention(Builder& b, const Config& c, Value x, const SelfAttention& attention);

// down(activation(gate x) * up x), weights under mlp.* (LlamaMLP).
Value gated_mlp(Builder& b, const Config& c, Value x, std::int64_t width, bool bias);

struct RoutedMlp {
  std::string_view router;  // weight [experts, hidden]
  ExpertNames names;
  std::int64_t width;  // of an expert
  Router routing;
  Gated gated;
};

// A router over experts of the same form as gated_mlp (Qwen3MoeSparseMoeBlock).
// `stage` names what it yields: "mlp.out", unless more is added to it.
Value routed_mlp(Builder& b, std::string_view stage, Value x, const RoutedMlp& mlp);

// Whether layer `i` is routed, by mlp_only_layers and decoder_sparse_step.
bool is_sparse_layer(const Config& c, std::int64_t i);

// An expert for every token, beside the routed ones; `weights` is the prefix of its projections, and
// `stage` names its output: "moe.shared", unless more is done to it (DeepseekV3MLP).
Value shared_mlp(Builder& b, const Config& c, std::string_view stage, std::string_view weights,
                 Value x, std::int64_t width, const Gated& gated);

// Records one half of a layer: from its normalised input [hidden] to the branch [hidden]. The
// layer's prefixes are set.
using Branch = std::function<Value(Builder& b, Value x, std::int64_t layer)>;

// What a decoder has around its layers' halves. The names are of a layer's norms, without the
// layer; none: nothing is normalised there.
struct Decoder {
  Norm norm;
  Embed embed;
  Logits logits;
  std::optional<std::string_view> attn_norm;
  std::optional<std::string_view> attn_post_norm;  // of the attention's output, before it is added
  std::optional<std::string_view> mlp_norm;
  std::optional<std::string_view> mlp_post_norm;
};

// Embedding, then in each layer x += post_norm(attention(norm(x))), x += post_norm(mlp(norm(x))),
// then a norm and the head, which is the embedding where the configuration ties them.
Result<Graph> decoder(const Config& c, const Decoder& decoder, const Branch& attention,
                      const Branch& mlp);

// Llama's: no scales, no caps, a norm before each half.
Decoder llama_decoder(const Norm& norm);

// decoder() of llama_decoder(norm).
Result<Graph> pre_norm_decoder(const Config& c, const Norm& norm, const Branch& attention,
                               const Branch& mlp);

// "full_attention" or "sliding_attention": what layer_types says of layer `i`, or, where the file
// has none, sliding but for each `period`-th layer.
std::string_view layer_type(const Config& c, std::int64_t i, std::int64_t period);

// sliding_window in a layer of type "sliding_attention".
std::optional<std::int64_t> layer_window(const Config& c, std::string_view layer_type);

// The window of layer `i` by layer_types where use_sliding_window must be on for there to be one.
std::optional<std::int64_t> switched_window(const Config& c, std::int64_t i);

// The window of layer `i` by layer_types, or, where the file has none, by Qwen's rule: layers from
// max_window_layers on.
std::optional<std::int64_t> qwen_window(const Config& c, std::int64_t i);

// Where is_sparse_layer is false of a layer: llama.cpp wants experts in all.
std::vector<std::string> dense_layer_caveats(const Config& c);

}  // namespace plumb
