// The pitfalls of DeepSeek-V4, planted: each wrong variant must take the logits far from
// transformers', or the goldens would not have seen it. specs/deepseek_v4.md, section 3, lists where
// other engines fell into them.
#include "golden.h"

namespace plumb {
namespace {

constexpr double kTolerance = 2e-5;
constexpr double kFar = 20 * kTolerance;

using Change = std::function<void(BoundGraph&)>;

struct Pitfall {
  const char* name;
  Change plant;
};

bool ends_with(const std::string& name, std::string_view end) {
  return name.size() >= end.size() && name.substr(name.size() - end.size()) == end;
}

// Applies `change` to every operation of a kind whose stage's name ends in `end`; at least one must
// be there.
template <class Operation>
Change each(std::string_view end, std::function<void(Operation&)> change) {
  return [end, change](BoundGraph& network) {
    int found = 0;
    for (Stage& stage : network.graph.stages) {
      auto* operation = std::get_if<Operation>(&stage.operation);
      if (operation == nullptr || !ends_with(stage.name, end)) continue;
      change(*operation);
      ++found;
    }
    EXPECT_GT(found, 0) << end;
  };
}

// The stage hands on what it is given.
Change omit(std::string_view end) {
  return [end](BoundGraph& network) {
    int found = 0;
    for (Stage& stage : network.graph.stages) {
      if (!ends_with(stage.name, end)) continue;
      stage.operation = Clamp{.limit = 1e30};
      ++found;
    }
    EXPECT_GT(found, 0) << end;
  };
}

const Rope& rope_of(const BoundGraph& network, const std::string& stage) {
  const int index = network.graph.find_stage(stage);
  return std::get<Rope>(network.graph.stages[static_cast<std::size_t>(index)].operation);
}

// Rotations of the layer take the frequencies of another layer; layer 0 has no blocks, the others do.
Change frequencies(const std::string& layer, const std::string& from, std::string_view end) {
  return [layer, from, end](BoundGraph& network) {
    const RopeFrequencies other = rope_of(network, from + ".attn.q_rope").frequencies;
    for (Stage& stage : network.graph.stages) {
      auto* rope = std::get_if<Rope>(&stage.operation);
      if (rope != nullptr && stage.name.starts_with(layer) && ends_with(stage.name, end))
        rope->frequencies = other;
    }
  };
}

void choose_by_score_in_hashed_layers(Router& router) {
  router.choice = RouterChoice::kLargest;
}

std::vector<Pitfall> attention_pitfalls() {
  return {
      {"SinksOmitted", each<AttendShared>("attn", [](auto& op) { op.sinks = false; })},
      {"SinksOmittedWithoutBlocks",
       each<AttendShared>("layers.0.attn", [](auto& op) { op.sinks = false; })},
      {"WindowOneLonger", each<AttendShared>("attn", [](auto& op) { ++op.window; })},
      {"WindowOneShorter", each<AttendShared>("attn", [](auto& op) { --op.window; })},
      {"BlockVisibleOneTokenLate", each<AttendShared>("attn",
                                                      [](auto& op) {
                                                        if (op.blocks) op.blocks->ahead = 0;
                                                      })},
      {"BlockVisibleOneTokenEarly", each<AttendShared>("attn",
                                                       [](auto& op) {
                                                         if (op.blocks) op.blocks->ahead = 2;
                                                       })},
      {"ChosenBlockOneTokenLate", each<Index>("", [](Index& op) { op.blocks.ahead = 0; })},
      {"ChosenBlockOneTokenEarly", each<Index>("", [](Index& op) { op.blocks.ahead = 2; })},
      {"ChoiceIgnored", each<AttendShared>("attn", [](auto& op) { op.chosen = false; })},
      {"OneBlockFewerChosen", each<Index>("", [](Index& op) { --op.chosen; })},
      {"IndexWithoutRelu", each<Index>("", [](Index& op) { op.rectified = false; })},
      {"IndexQueriesNotRotated", omit("attn.index_q_rope")},
      {"PositionBiasOmitted", each<Compress>("", [](Compress& op) { op.position_bias = false; })},
      {"FirstBlockOverlapsZeros",
       each<Compress>("", [](Compress& op) { op.before_first = BeforeFirst::kZeros; })},
      {"BlocksRotatedByIndex",
       each<Compress>("", [](Compress& op) { op.position = BlockPosition::kIndex; })},
      {"BlocksRotatedByLastToken",
       each<Compress>("", [](Compress& op) { op.position = BlockPosition::kLastToken; })},
      {"NoRotationBack", omit("attn.context_unrope")},
      {"RotatedForwardAgain",
       each<Rope>("context_unrope", [](Rope& op) { op.direction = RopeDirection::kForward; })},
      {"RotatedBackOneTokenOff",
       each<Rope>("context_unrope", [](Rope& op) { op.position_offset = 1; })},
      {"FirstChannelsRotated", each<Rope>("", [](Rope& op) { op.slice = RopeSlice::kFirst; })},
      {"HalvesRotated", each<Rope>("", [](Rope& op) { op.pairing = RopePairing::kHalfSplit; })},
      {"YarnMagnitude",
       each<Rope>("", [](Rope& op) { op.attention_factor = 0.1 * std::log(16) + 1; })},
      {"YarnTemperature",
       each<AttendShared>("attn",
                          [](auto& op) { op.scale *= std::pow(0.1 * std::log(16) + 1, 2); })},
      {"YarnInLayersWithoutBlocks", frequencies("layers.0.", "layers.1", "_rope")},
      {"PlainQueriesInLayersWithBlocks", frequencies("layers.1.", "layers.0", "attn.q_rope")},
      {"PlainKeysInLayersWithBlocks", frequencies("layers.2.", "layers.0", "attn.kv_rope")},
      {"QueriesNotNormalised", omit("attn.q_norm")},
  };
}

std::vector<Pitfall> stream_pitfalls() {
  return {
      {"MixedUntransposed", each<Mix>("", [](Mix& op) { op.incoming = StreamAxis::kSecond; })},
      {"SinkhornRowsFirst",
       each<HyperConnection>("", [](auto& op) { op.start = SinkhornStart::kRows; })},
      {"SinkhornOnce", each<HyperConnection>("", [](auto& op) { op.iterations = 1; })},
      {"PostNotDoubled", each<HyperConnection>("", [](auto& op) { op.post_scale = 1; })},
      {"RoutedNotClamped", each<Experts>("", [](Experts& op) { op.gated.limit = std::nullopt; })},
      {"SharedNotClamped", each<Gated>("shared_act", [](Gated& op) { op.limit = std::nullopt; })},
      {"SharedScaled", each<Add>("mlp.out", [](Add& op) { op.factor = 1.5; })},
      {"RoutedNotScaled", each<Router>("moe", [](Router& op) { op.scale = 1; })},
      {"NotRenormalised", each<Router>("moe", [](Router& op) { op.renormalise = false; })},
      {"BiasInWeights", each<Router>("moe",
                                     [](Router& op) {
                                       if (op.selection_bias == SelectionBias::kChoice)
                                         op.selection_bias = SelectionBias::kChoiceAndWeight;
                                     })},
      {"BiasNotInChoice",
       each<Router>("moe", [](Router& op) { op.selection_bias = SelectionBias::kNone; })},
      {"HashedLayersChooseByScore", each<Router>("layers.0.moe", choose_by_score_in_hashed_layers)},
      {"Sigmoid", each<Router>("moe", [](Router& op) { op.score = RouterScore::kSigmoid; })},
  };
}

std::vector<Pitfall> pitfalls() {
  std::vector<Pitfall> all = attention_pitfalls();
  for (Pitfall& pitfall : stream_pitfalls())
    all.push_back(std::move(pitfall));
  return all;
}

class DeepseekV4Pitfalls : public testing::TestWithParam<Pitfall> {
 protected:
  static void SetUpTestSuite() {
    const auto folder = golden::data_folder() / "checkpoints/deepseek_v4";
    auto model = Model::load(folder, {});
    ASSERT_TRUE(model.ok()) << model.error().message;
    model_ = std::make_unique<Model>(std::move(model).value());
    const auto source = open_safetensors(folder / "golden/golden.safetensors");
    ASSERT_TRUE(source.ok()) << source.error().message;
    ids_ = golden::ids(*source.value(), "long/ids");
    expected_ = golden::tensor(*source.value(), "long/logits_f32");
  }
  static void TearDownTestSuite() { model_.reset(); }

  static double distance(const BoundGraph& network) {
    return golden::distance(golden::run(network, ids_, {}), expected_);
  }

  static inline std::unique_ptr<Model> model_;
  static inline std::vector<std::int32_t> ids_;
  static inline Tensor expected_;
};

TEST_P(DeepseekV4Pitfalls, LeavesTheGoldenFarBehind) {
  ASSERT_NE(model_, nullptr);
  BoundGraph changed = model_->network;
  ASSERT_LE(distance(changed), kTolerance);
  GetParam().plant(changed);
  const double measured = distance(changed);
  std::printf("%-34s %.1e\n", GetParam().name, measured);
  EXPECT_GT(measured, kFar);
}

INSTANTIATE_TEST_SUITE_P(Planted, DeepseekV4Pitfalls, testing::ValuesIn(pitfalls()),
                         [](const auto& parameter) { return parameter.param.name; });

}  // namespace
}  // namespace plumb
