// Words for conventions, and layers that are alike.
#include "graph/print.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/source_names.h"
#include "graph/fields.h"

namespace plumb {
namespace {

using testing::ElementsAre;

TEST(EnumNames, AreTheSourceOwn) {
  EXPECT_THAT(enum_names<RopePairing>(), ElementsAre("half_split", "interleaved"));
  EXPECT_THAT(enum_names<RopeScaling>(),
              ElementsAre("none", "linear", "dynamic", "yarn", "llama3", "longrope", "divisors"));
  EXPECT_EQ(enum_name(EpsPlace::kOutsideRoot), "outside_root");
  EXPECT_EQ(enum_name(static_cast<EpsPlace>(7)), "7");
}

TEST(TypeNames, AreTheSourceOwn) {
  EXPECT_EQ(operation_name(Norm{}), "norm");
  EXPECT_EQ(operation_name(GatedNorm{}), "gated_norm");
  const State state = {.layer = 0, .kind = KeyValueState{.heads = 2, .key_dim = 8, .value_dim = 4}};
  EXPECT_EQ(state_name(state), "key_value");
  EXPECT_EQ(size(state).per_token, 24);
  const State window = {.layer = 0, .kind = ConvolutionState{.channels = 10, .taps = 4}};
  EXPECT_EQ(size(window).fixed, 30);
  EXPECT_EQ(size({.layer = 0, .kind = ListState{.width = 512, .ratio = 128}}).per_token, 4);
  EXPECT_EQ(size({.layer = 0, .kind = WindowState{.width = 10, .window = 4}}).fixed, 30);
  EXPECT_EQ(size({.layer = 0, .kind = RemainderState{.width = 10, .tokens = 8}}).fixed, 160);
}

std::vector<std::string> words(const Operation& operation) {
  std::vector<std::string> result;
  for (const Field& field : fields(operation))
    result.push_back(field.name + " " + to_string(field.value));
  return result;
}

TEST(Fields, NameEveryConvention) {
  EXPECT_THAT(words(Attend{.scale = 0.125,
                           .groups = HeadGroups::kTile,
                           .window = std::nullopt,
                           .soft_cap = 50.0,
                           .sinks = true,
                           .future = 0}),
              ElementsAre("scale 0.125", "groups tile", "window none", "soft_cap 50", "sinks yes",
                          "future 0"));
  Linear linear = {};
  linear.out = {4, 48};
  linear.order = WeightOrder::kInOut;
  EXPECT_THAT(words(linear), testing::IsSupersetOf({"out [4, 48]", "bias no", "order in_out"}));
  const Experts experts = {.experts = 8,
                           .width = 32,
                           .gated = {.activation = Activation::kGeluTanh,
                                     .limit = 7.0,
                                     .limit_sides = ClampSides::kGateAbove,
                                     .sigmoid_slope = 1.702,
                                     .up_offset = 1},
                           .bias = true};
  EXPECT_THAT(words(experts),
              ElementsAre("experts 8", "width 32", "gated.activation gelu_tanh", "gated.limit 7", "gated.limit_sides gate_above",
                          "gated.sigmoid_slope 1.702", "gated.up_offset 1", "bias yes"));
}

TEST(Fields, OfAnOptionalPartAreNamedWhenItIsSet) {
  Router router = {};
  EXPECT_THAT(words(router), testing::Contains("groups none"));
  router.groups.emplace();
  router.groups->largest = 2;
  EXPECT_THAT(words(router),
              testing::IsSupersetOf({"groups.largest 2", "groups.excluded minus_infinity"}));
  EXPECT_THAT(words(router), testing::Not(testing::Contains("groups none")));
}

TEST(Fields, CanBeChanged) {
  Norm norm = {.eps = 1e-6,
               .eps_place = EpsPlace::kInsideRoot,
               .weight_offset = 0,
               .centre = NormCentre::kNone,
               .span = NormSpan::kHead,
               .rounding = Rounding::kBeforeWeight};
  visit_fields(norm, [](std::string_view name, auto& value) {
    if constexpr (std::is_same_v<std::remove_reference_t<decltype(value)>, double>) {
      if (name == "eps") value = 1e-5;
    }
  });
  EXPECT_EQ(norm.eps, 1e-5);
}

// Two stages in each layer; the layer's input comes from outside.
Graph three_layers(double odd_factor) {
  Graph graph;
  graph.stages.push_back(
      {.name = "embed",
       .layer = -1,
       .operation = Embed{.scale = 1, .scale_precision = ScalePrecision::kActivation},
       .inputs = {},
       .params = {},
       .states = {},
       .outputs = {{.name = "embed", .shape = {8}}}});
  for (int layer = 0; layer < 3; ++layer) {
    const std::string prefix = "layers." + std::to_string(layer) + ".";
    graph.params.emplace_back();
    graph.params.back().name = "model." + prefix + "w.weight";
    graph.params.back().shape = {8, 8};
    Linear linear = {};
    linear.out = {8};
    const int before = static_cast<int>(graph.stages.size()) - 1;
    graph.stages.push_back({.name = prefix + "w",
                            .layer = layer,
                            .operation = linear,
                            .inputs = {{.stage = before, .output = 0}},
                            .params = {layer},
                            .states = {},
                            .outputs = {{.name = prefix + "w", .shape = {8}}}});
    graph.stages.push_back(
        {.name = prefix + "residual",
         .layer = layer,
         .operation = Add{.factor = layer == 1 ? odd_factor : 1},
         .inputs = {{.stage = before, .output = 0}, {.stage = before + 1, .output = 0}},
         .params = {},
         .states = {},
         .outputs = {{.name = prefix + "residual", .shape = {8}}}});
  }
  return graph;
}

TEST(AlikeLayers, DifferInNothingButTheNumber) {
  const auto one = alike_layers(three_layers(1));
  ASSERT_EQ(one.size(), 1U);
  EXPECT_THAT(one[0].layers, ElementsAre(0, 1, 2));
  EXPECT_THAT(one[0].stages, ElementsAre(1, 2));
  const auto two = alike_layers(three_layers(0.5));
  ASSERT_EQ(two.size(), 2U);
  EXPECT_THAT(two[0].layers, ElementsAre(0, 2));
  EXPECT_THAT(two[1].layers, ElementsAre(1));
}

TEST(AlikeLayers, DifferWhenTheyReadElsewhere) {
  Graph graph = three_layers(1);
  graph.stages[6].inputs[0] = {.stage = 0,
                               .output = 0};  // the last layer's residual starts from the embedding
  EXPECT_EQ(alike_layers(graph).size(), 2U);
}

TEST(AlikeNames, StandForAllCombinations) {
  const std::vector<std::string> names = {"embed",      "l.0.e.0.up", "l.0.e.1.up", "l.0.norm",
                                          "l.1.e.0.up", "l.1.e.1.up", "l.1.norm",   "l.3.norm",
                                          "x.0.y.1",    "x.1.y.0"};
  std::vector<std::string> kinds(names.size(), "F32");
  const auto groups = alike_names(names, kinds);
  std::vector<std::string> shown;
  for (const NameGroup& group : groups)
    shown.push_back(group.name + " " + std::to_string(group.members.size()));
  EXPECT_THAT(shown, ElementsAre("embed 1", "l.{0-1}.e.{0-1}.up 4", "l.{0-1, 3}.norm 3",
                                 "x.0.y.1 1", "x.1.y.0 1"));
  kinds[3] = "BF16";
  EXPECT_EQ(alike_names(names, kinds).size(), 6U);
  EXPECT_EQ(alike_names({"a.b12", "a.01.b", "a.99999999999.b", "7"}, {"", "", "", ""}).size(), 4U);
}

TEST(Names, LoseTheirLayer) {
  EXPECT_EQ(name_in_layer("layers.3.attn.norm", 3), "attn.norm");
  EXPECT_EQ(name_in_layer("model.layers.3.mlp.weight", 3), "model.layers.N.mlp.weight");
  EXPECT_EQ(name_in_layer("layers.31.attn.norm", 3), "layers.31.attn.norm");
  EXPECT_EQ(ranges({0, 1, 2, 5, 7, 8}), "0-2, 5, 7-8");
}

}  // namespace
}  // namespace plumb
