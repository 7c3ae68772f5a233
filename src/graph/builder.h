// Builder: records a graph while an architecture's function runs.
//   Builder b(config);
//   Value x = b.embed("embed", "model.embed_tokens", {.scale = 1, .scale_precision =
//   ScalePrecision::kActivation});
// The first argument of each call is the stage's name (trace-format.md); weights are named as in
// the checkpoint, without
// ".weight". Inside layer() both get their prefixes. Shapes are checked as the stages are recorded;
// the first error is kept and returned by finish(), so an architecture needs no error handling.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "graph/graph.h"
#include "io/config.h"

namespace plumb {

struct RouterValues {
  Value probs;    // [experts]; scores before selection
  Value ids;      // [chosen]
  Value weights;  // [chosen]
};

// How the weights of a routed layer are named: {e} stands for the expert.
struct ExpertNames {
  std::string_view gate;  // "mlp.experts.{e}.gate_proj"
  std::string_view up;
  std::string_view down;
};

struct CompressedBlocks {
  Value pooled;     // a row of [channels] for each block that the tokens complete
  Value positions;  // one for each
};

struct HyperValues {
  Value pre;   // [streams]
  Value post;  // [streams]
  Value comb;  // [streams, streams]
};

struct DeltaInputs {
  Value q;  // [key_heads, key_dim], as is k
  Value k;
  Value v;     // [value_heads, value_dim]
  Value g;     // [value_heads]: logarithm of the decay
  Value beta;  // [value_heads]
};

class Builder {
 public:
  static constexpr Value kTokens{
      0, 0};  // the ids fed; recorded by the constructor, as are the positions
  static constexpr Value kPositions{1, 0};  // an operand of whatever rotates or attends

  explicit Builder(const Config& config);

  Value embed(std::string_view stage, std::string_view weight, const Embed& embed);
  Value norm(std::string_view stage, Value x, std::optional<std::string_view> weight,
             const Norm& norm);
  Value linear(std::string_view stage, Value x, std::string_view weight, const Linear& linear);
  // Each part is [heads, channels] or [1, channels]; yields [heads, the sum of the channels].
  Value join_heads(std::string_view stage, std::vector<Value> parts);
  // x is [heads, channels], or the channels of one head.
  Value rope(std::string_view stage, Value x, const Rope& rope, Value positions = kPositions);
  // Yields stage.scores, stage.probs and stage.context, and owns the layer's key-value state.
  // Returns the context. q [heads, key_dim], k [kv_heads, key_dim], v [kv_heads, value_dim];
  // `sinks` names a weight [heads].
  Value attend(std::string_view stage, Value q, Value k, Value v, const Attend& attend,
               std::optional<std::string_view> sinks = std::nullopt);
  // `gate` is shaped as `up`, or has one element for all of it.
  Value gated(std::string_view stage, Value gate, Value up, const Gated& gated);
  Value activate(std::string_view stage, Value x, const Activate& activate);
  Value slice(std::string_view stage, Value x, const Slice& slice);
  Value concat(std::string_view stage, std::vector<Value> parts);
  // Owns the layer's convolution state. The weight is [channels, 1, taps].
  Value convolution(std::string_view stage, Value x, std::string_view weight,
                    const Convolution& convolution);
  Value l2_norm(std::string_view stage, Value x, const L2Norm& norm);
  // `rate` and `offset` name parameters, without a suffix.
  Value log_decay(std::string_view stage, Value x, std::string_view rate, std::string_view offset,
                  const LogDecay& decay);
  // Yields stage.state and stage.context, and owns the layer's recurrent state. Returns the context.
  Value delta_rule(std::string_view stage, const DeltaInputs& in, const DeltaRule& rule);
  // The weight is as long as the last axis.
  Value gated_norm(std::string_view stage, Value x, Value gate, std::string_view weight,
                   const GatedNorm& norm);
  Value add(std::string_view stage, Value x, Value branch, const Add& add);
  Value clamp(std::string_view stage, Value x, const Clamp& clamp);
  // Yields stage.probs, stage.ids and stage.weights. `bias` and `table` name the parameters that
  // selection_bias and RouterChoice::kTable ask for.
  RouterValues router(std::string_view stage, Value logits, const Router& router,
                      std::optional<std::string_view> bias = std::nullopt,
                      std::optional<std::string_view> table = std::nullopt);
  Value experts(std::string_view stage, Value x, const RouterValues& routing,
                const ExpertNames& names, const Experts& experts);
  // The stages of builder_compressed.cpp. Yields stage.scores, stage.probs and stage.context, and
  // owns the layer's window. q [heads, width], kv [width], entries as `collect` yields them, chosen
  // as `index` does; `sinks` names a parameter [heads].
  Value attend_shared(std::string_view stage, Value q, Value kv, std::optional<Value> entries,
                      std::optional<Value> chosen, const AttendShared& attend,
                      std::optional<std::string_view> sinks);
  // Owns the remainder. `bias` names a parameter [ratio, channels].
  CompressedBlocks compress(std::string_view stage, Value kv, Value scores,
                            const Compress& compress, std::optional<std::string_view> bias);
  // Owns the list; a row comes every `ratio` tokens.
  Value collect(std::string_view stage, Value rows, std::int64_t ratio);
  // Yields stage.scores and `stage`: [chosen] of each token. q [heads, width], weights [heads].
  Value index(std::string_view stage, Value q, Value weights, Value entries, const Index& index);
  Value repeat(std::string_view stage, Value x, const Repeat& repeat);
  // Yields stage.pre and, where it mixes, stage.post and stage.comb. `prefix` is that of the
  // parameters fn, base and scale.
  HyperValues hyper_connection(std::string_view stage, Value streams, std::string_view prefix,
                               const HyperConnection& connection);
  Value collapse(std::string_view stage, Value streams, Value pre);
  Value mix(std::string_view stage, Value streams, Value branch, const HyperValues& weights,
            const Mix& mix);
  Value grouped_linear(std::string_view stage, Value x, std::string_view weight,
                       const GroupedLinear& linear);
  Value narrow(std::string_view stage, Value x, const Narrow& narrow);
  Value hadamard(std::string_view stage, Value x);
  Value logits(std::string_view stage, Value x, std::string_view weight, const Logits& logits);

  // Restores the prefixes when it goes out of scope.
  class Layer {
   public:
    explicit Layer(Builder& builder) : builder_(builder) {}
    ~Layer();
    Layer(const Layer&) = delete;
    Layer& operator=(const Layer&) = delete;

   private:
    Builder& builder_;
  };
  // Stages are called layers.INDEX.*, weights model.layers.INDEX.*.
  [[nodiscard]] Layer layer(std::int64_t index);

  Result<Graph> finish();  // the recorded stages, or the first error

 private:
  static std::int64_t count(const Shape& shape);  // elements, or one more than the most allowed
  const Shape& shape(Value x) const;
  int param(const std::string& name, const Shape& shape);
  std::string weight_name(std::string_view name) const;
  void fail(std::string_view stage, const std::string& what);
  void check_limit(std::string_view stage, double limit);  // of a clamp to [-limit, limit]
  Stage& record(std::string_view stage, Operation operation, std::vector<Value> inputs);
  Value yield(Stage& stage, const std::string& suffix, Shape shape);
  int own_state(decltype(State::kind) kind);

  const Config& config_;
  Graph graph_;
  std::string stage_prefix_;
  std::string weight_prefix_;
  int layer_ = -1;
  std::optional<Error> error_;
};

}  // namespace plumb
