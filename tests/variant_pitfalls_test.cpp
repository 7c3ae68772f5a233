// The pitfalls P31 to P53 of specs/architectures.md that the variants can fall into, planted in a
// right graph: each must take the logits far from transformers', and some of their neighbours.
#include <algorithm>

#include "core/mapped_file.h"
#include "golden.h"
#include "io/io_test_support.h"
#include "io/weight_views.h"

namespace plumb {
namespace {

constexpr double kTolerance = 2e-5;
constexpr double kFar = 20 * kTolerance;

using Change = std::function<void(BoundGraph&)>;

struct Pitfall {
  std::string name;
  std::string folder;  // of tests/data
  Change plant;
  double least = kFar;  // how far it takes the logits
};

// Applies `f` to every operation of a kind whose stage's name ends so.
template <class Operation>
Change each(const std::string& end, std::function<void(Operation&)> f) {
  return [end, f](BoundGraph& network) {
    int found = 0;
    for (Stage& stage : network.graph.stages) {
      auto* operation = std::get_if<Operation>(&stage.operation);
      if (operation == nullptr || !stage.name.ends_with(end)) continue;
      f(*operation);
      ++found;
    }
    EXPECT_GT(found, 0);
  };
}

template <class Operation>
Change each(std::function<void(Operation&)> f) {
  return each<Operation>("", std::move(f));
}

// Exchanges the weights of two parameters in every layer.
Change swapped(const std::string& a, const std::string& b) {
  return [a, b](BoundGraph& network) {
    const auto& params = network.graph.params;
    for (std::size_t i = 0; i < params.size(); ++i) {
      if (!params[i].name.ends_with(a)) continue;
      const std::string other = params[i].name.substr(0, params[i].name.size() - a.size()) + b;
      for (std::size_t j = 0; j < params.size(); ++j) {
        if (params[j].name == other) std::swap(network.weights[i], network.weights[j]);
      }
    }
  };
}

// Rows in another order, elements times a factor.
class Changed final : public Weight {
 public:
  Changed(Shape shape, std::function<void(std::int64_t, std::span<double>)> read)
      : shape_(std::move(shape)), read_(std::move(read)) {}
  const Shape& shape() const override { return shape_; }
  void read_row(std::int64_t row, std::span<double> out) const override { read_(row, out); }
  std::string format() const override { return "changed"; }
  std::uint64_t stored_bytes() const override { return 0; }

 private:
  Shape shape_;
  std::function<void(std::int64_t, std::span<double>)> read_;
};

// Replaces the weight of every parameter of this name's end.
Change replaced(const std::string& end, std::function<WeightPtr(BoundGraph&, std::size_t)> make) {
  return [end, make](BoundGraph& network) {
    std::vector<WeightPtr> weights = network.weights;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      if (network.graph.params[i].name.ends_with(end)) weights[i] = make(network, i);
    }
    network.weights = std::move(weights);
  };
}

WeightPtr weight_named(const BoundGraph& network, const std::string& name) {
  for (std::size_t i = 0; i < network.weights.size(); ++i) {
    if (network.graph.params[i].name == name) return network.weights[i];
  }
  ADD_FAILURE() << name;
  return nullptr;
}

// The first (gate) or second (up) half of the fused rows that alternate gate and up (P41).
Change contiguous_half(bool second) {
  const std::string end = second ? "up_proj.weight" : "gate_proj.weight";
  return replaced(end, [second, end](BoundGraph& network, std::size_t i) -> WeightPtr {
    const Param& param = network.graph.params[i];
    const std::string stem = param.name.substr(0, param.name.size() - end.size());
    const WeightPtr gate = weight_named(network, stem + "gate_proj.weight");
    const WeightPtr up = weight_named(network, stem + "up_proj.weight");
    const std::int64_t first = second ? param.shape[0] : 0;
    return std::make_shared<Changed>(param.shape,
                                     [gate, up, first](std::int64_t row, std::span<double> out) {
                                       const std::int64_t fused = first + row;
                                       (fused % 2 == 0 ? gate : up)->read_row(fused / 2, out);
                                     });
  });
}

void contiguous_halves(BoundGraph& network) {
  BoundGraph gates = network;
  contiguous_half(false)(gates);
  contiguous_half(true)(network);
  for (std::size_t i = 0; i < network.weights.size(); ++i) {
    if (network.graph.params[i].name.ends_with("gate_proj.weight"))
      network.weights[i] = gates.weights[i];
  }
}

Change scaled(const std::string& end, double factor) {
  return replaced(end, [factor](BoundGraph& network, std::size_t i) -> WeightPtr {
    const WeightPtr base = network.weights[i];
    return std::make_shared<Changed>(base->shape(),
                                     [base, factor](std::int64_t row, std::span<double> out) {
                                       base->read_row(row, out);
                                       for (double& value : out)
                                         value *= factor;
                                     });
  });
}

// The first entries of a weight over all heads, taken for each head (P31).
void norms_of_heads(BoundGraph& network) {
  for (Stage& stage : network.graph.stages) {
    auto* norm = std::get_if<Norm>(&stage.operation);
    if (norm == nullptr || norm->span != NormSpan::kToken) continue;
    norm->span = NormSpan::kHead;
    const std::int64_t head_dim = stage.outputs[0].shape.back();
    auto& weight = network.weights[static_cast<std::size_t>(stage.params[0])];
    auto slice = strided_view(weight, {head_dim}, 0, 1);
    ASSERT_TRUE(slice.ok());
    weight = slice.value();
  }
}

// Windows on the other layers (P47).
void move_windows(BoundGraph& network) {
  each<Attend>([](Attend& attend) {
    attend.window = attend.window ? std::nullopt : std::optional<std::int64_t>(24);
  })(network);
}

Rope rotation_of(const BoundGraph& network, bool windowed) {
  for (const Stage& stage : network.graph.stages) {
    const auto* attend = std::get_if<Attend>(&stage.operation);
    if (attend == nullptr || attend->window.has_value() != windowed) continue;
    const auto q = static_cast<std::size_t>(stage.inputs[0].stage);
    return std::get<Rope>(network.graph.stages[q].operation);
  }
  throw std::logic_error("no such layer");
}

// The rotation of the windowed layers, or of the others, for all (P37).
Change one_rotation(bool windowed) {
  return [windowed](BoundGraph& network) {
    const Rope rope = rotation_of(network, windowed);
    each<Rope>([rope](Rope& each_rope) { each_rope = rope; })(network);
  };
}

// Stage `from` is computed before stage `to`.
void move_stage(Graph& graph, int from, int to) {
  auto& stages = graph.stages;
  std::rotate(stages.begin() + to, stages.begin() + from, stages.begin() + from + 1);
  const auto renumber = [&](Value& value) {
    value.stage = value.stage == from                       ? to
                  : value.stage >= to && value.stage < from ? value.stage + 1
                                                            : value.stage;
  };
  for (Stage& stage : stages)
    std::for_each(stage.inputs.begin(), stage.inputs.end(), renumber);
  renumber(graph.logits);
}

// The norms after OLMo-2's halves are applied before them, as in Llama (P34).
void norms_before_halves(BoundGraph& network) {
  Graph& graph = network.graph;
  for (int i = 0; i < static_cast<int>(graph.stages.size()); ++i) {
    const std::string& name = graph.stages[static_cast<std::size_t>(i)].name;
    if (!name.ends_with(".post_norm")) continue;
    Stage& norm = graph.stages[static_cast<std::size_t>(i)];
    Stage& add = graph.stages[static_cast<std::size_t>(i) + 1];
    const Value x = add.inputs[0];
    add.inputs[1] = norm.inputs[0];
    norm.inputs[0] = x;
    move_stage(graph, i, x.stage + 1);
    for (int s = x.stage + 2; s <= i; ++s) {
      for (Value& input : graph.stages[static_cast<std::size_t>(s)].inputs) {
        if (input.stage == x.stage) input = {x.stage + 1, 0};
      }
    }
  }
}

std::vector<Pitfall> gemma_pitfalls() {
  const std::string gemma2 = "checkpoints/gemma2";
  const std::string gemma3 = "checkpoints/gemma3";
  const Change no_scale = each<Embed>([](Embed& embed) { embed.scale = 1; });
  return {
      {"P35_NormsMixedUp", gemma2,
       swapped("post_attention_layernorm.weight", "pre_feedforward_layernorm.weight")},
      {"P36_NoEmbeddingScale", gemma2, no_scale},
      {"P36_NoEmbeddingScale3", gemma3, no_scale},
      {"P36_ScaleInBfloat16", gemma2,
       each<Embed>([](Embed& embed) { embed.scale_precision = ScalePrecision::kBfloat16; }),
       2 * kTolerance},
      {"P37_ScalingOfFullLayersEverywhere", gemma3, one_rotation(false)},
      {"P37_BaseOfWindowedLayersEverywhere", gemma3, one_rotation(true)},
      {"P39_GeluByErf", gemma2,
       each<Gated>([](Gated& gated) { gated.activation = Activation::kGeluErf; }), 2 * kTolerance},
      {"P40_OneAddedAgain", gemma2, each<Norm>([](Norm& norm) { norm.weight_offset = 2; })},
      {"P40_OneNeverAdded", gemma3, each<Norm>([](Norm& norm) { norm.weight_offset = 0; })},
      {"ScaleOfTheHead", gemma2,
       each<Attend>([](Attend& attend) { attend.scale = 1 / std::sqrt(32.0); })},
      {"NoCapOnScores", gemma2, each<Attend>([](Attend& attend) { attend.soft_cap.reset(); })},
      {"NoCapOnLogits", gemma2, each<Logits>([](Logits& logits) { logits.soft_cap.reset(); })},
      {"WindowOneLonger", gemma2, each<Attend>([](Attend& attend) {
         if (attend.window) ++*attend.window;
       })},
      {"WindowOneShorter", gemma3, each<Attend>([](Attend& attend) {
         if (attend.window) --*attend.window;
       })},
      {"WindowIgnored", gemma2, each<Attend>([](Attend& attend) { attend.window.reset(); })}};
}

std::vector<Pitfall> gpt_oss_pitfalls() {
  const std::string folder = "checkpoints/gpt_oss";
  return {
      {"P41_HalvesTakenContiguously", folder, contiguous_halves},
      {"P42_NothingAddedToUp", folder,
       each<Experts>([](Experts& experts) { experts.gated.up_offset = 0; })},
      {"P42_PlainSigmoid", folder,
       each<Experts>([](Experts& experts) { experts.gated.sigmoid_slope = 1; })},
      {"P42_ClampedElsewhere", folder,
       each<Experts>([](Experts& experts) { experts.gated.limit = 1; })},
      {"P43_SinksOmitted", folder, each<Attend>([](Attend& attend) { attend.sinks = false; })},
      {"P43_SinksScaled", folder, scaled("self_attn.sinks", 1 / std::sqrt(32.0))},
      {"P45_SoftmaxBeforeChoice", folder,
       each<Router>([](Router& router) { router.order = RouterOrder::kScoreThenSelect; })},
      {"P46_NoAttentionFactor", folder, each<Rope>([](Rope& rope) { rope.attention_factor = 1; })},
      {"P47_WindowsOnOddLayers", folder, move_windows},
      {"RampTruncated", folder, each<Rope>([](Rope& rope) { rope.frequencies.truncate = true; })},
      {"ExpertBiasOmitted", folder, scaled("down_proj.bias", 0)}};
}

std::vector<Pitfall> other_pitfalls() {
  const std::string olmo2 = "variants/olmo2";
  const std::string olmo3 = "variants/olmo3";
  const std::string phi3 = "variants/phi3";
  const std::string glm4 = "variants/glm4";
  const Change gate_is_up = swapped("gate_proj.weight", "up_proj.weight");
  return {{"P31_NormOfEachHead", olmo2, norms_of_heads},
          {"P34_NormsBeforeTheHalves", olmo2, norms_before_halves},
          {"YarnOnWindowedLayers", olmo3, one_rotation(false)},
          {"NoYarnOnFullLayers", olmo3, one_rotation(true)},
          {"WindowOneLonger3", olmo3, each<Attend>([](Attend& attend) {
             if (attend.window) ++*attend.window;
           })},
          {"P49_UpTakenForGate", phi3, gate_is_up},
          {"P49_UpTakenForGate4", glm4, gate_is_up},
          {"P50_OtherFactors", phi3, each<Rope>([](Rope& rope) {
             std::swap(rope.frequencies.short_factor, rope.frequencies.long_factor);
           })},
          {"P50_NoLongropeFactor", phi3, each<Rope>([](Rope& rope) { rope.attention_factor = 1; })},
          {"WholeHeadRotates", phi3, each<Rope>([](Rope& rope) { rope.dims = 8; })},
          {"P52_HalfSplit", glm4,
           each<Rope>([](Rope& rope) { rope.pairing = RopePairing::kHalfSplit; })},
          {"P53_NormsMixedUp", glm4,
           swapped("post_attention_layernorm.weight", "post_self_attn_layernorm.weight")},
          {"P53_NormsMixedUpAgain", glm4,
           swapped("post_attention_layernorm.weight", "post_mlp_layernorm.weight")}};
}

std::vector<Pitfall> pitfalls() {
  std::vector<Pitfall> list = gemma_pitfalls();
  for (auto& more : {gpt_oss_pitfalls(), other_pitfalls()})
    list.insert(list.end(), more.begin(), more.end());
  return list;
}

double distance_of(const BoundGraph& network, const TensorSource& golden) {
  const auto ids = golden::ids(golden, "long/ids");
  return golden::distance(golden::run(network, ids, {}), golden::tensor(golden, "long/logits_f32"));
}

class VariantPitfalls : public testing::TestWithParam<Pitfall> {};

TEST_P(VariantPitfalls, LeaveTheTolerance) {
  const auto folder = golden::data_folder() / GetParam().folder;
  const auto model = Model::load(folder, {});
  ASSERT_TRUE(model.ok()) << model.error().message;
  const auto golden = open_safetensors(folder / "golden/golden.safetensors");
  ASSERT_TRUE(golden.ok()) << golden.error().message;
  EXPECT_LE(distance_of(model.value().network, *golden.value()), kTolerance);
  BoundGraph planted = model.value().network;
  GetParam().plant(planted);
  const double measured = distance_of(planted, *golden.value());
  std::printf("%-40s %.1e\n", GetParam().name.c_str(), measured);
  EXPECT_GT(measured, GetParam().least);
}

INSTANTIATE_TEST_SUITE_P(Planted, VariantPitfalls, testing::ValuesIn(pitfalls()),
                         [](const auto& parameter) { return parameter.param.name; });

// P51: SmolLM3's list holds 1 where a layer does rotate.
TEST(VariantPitfallsOfConfiguration, P51_FlagInverted) {
  const auto folder = golden::data_folder() / "variants/smollm3";
  const auto golden = open_safetensors(folder / "golden/golden.safetensors");
  ASSERT_TRUE(golden.ok()) << golden.error().message;
  const std::string text = read_text_file(folder / "config.json", 1 << 20).value();
  const test::TemporaryFolder scratch;
  const auto distance_with = [&](const std::string& flags) {
    const auto first = text.find('[', text.find("\"no_rope_layers\""));
    std::string changed = text;
    changed.replace(first, text.find(']', first) + 1 - first, flags);
    const auto config = scratch.write("config.json", changed);
    const auto model = Model::load(folder, {.config_file = config});
    EXPECT_TRUE(model.ok()) << model.error().message;
    return model.ok() ? distance_of(model.value().network, *golden.value()) : 0;
  };
  EXPECT_LE(distance_with("[1, 0, 1, 1]"), kTolerance);
  EXPECT_GT(distance_with("[0, 1, 0, 0]"), kFar);
  EXPECT_GT(distance_with("[1, 1, 1, 1]"), kFar);
}

}  // namespace
}  // namespace plumb
