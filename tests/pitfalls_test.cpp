// Each pitfall of specs/architectures.md that the plain decoders can fall into, planted in a right graph: the comparison with
// transformers' logits must then fail by a wide margin, and must hold before. Their numbers (P3 …) are the specification's.
#include <fstream>
#include <functional>

#include "core/mapped_file.h"
#include "golden.h"
#include "graph/builder.h"

namespace plumb {
namespace {

struct Pitfall {
  std::string name;
  std::string checkpoint;
  std::string prompt;
  std::function<void(BoundGraph&)> plant;
};

// Applies `change` to every stage of one kind; true where it returns nothing.
template <class Operation>
std::function<void(BoundGraph&)> every(std::function<void(Operation&)> change) {
  return [change](BoundGraph& network) {
    for (Stage& stage : network.graph.stages) {
      if (auto* operation = std::get_if<Operation>(&stage.operation)) change(*operation);
    }
  };
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

template <class Operation>
std::function<void(BoundGraph&)> named(const std::string& end,
                                       std::function<void(Operation&)> change) {
  return [end, change](BoundGraph& network) {
    for (Stage& stage : network.graph.stages) {
      if (ends_with(stage.name, end)) change(std::get<Operation>(stage.operation));
    }
  };
}

// A weight whose rows are another's in another order.
class Reordered final : public Weight {
 public:
  Reordered(WeightPtr weight, Shape shape, std::vector<std::int64_t> order)
      : weight_(std::move(weight)), shape_(std::move(shape)), order_(std::move(order)) {}
  const Shape& shape() const override { return shape_; }
  void read_row(std::int64_t row, std::span<double> out) const override {
    weight_->read_row(order_[static_cast<std::size_t>(row)], out);
  }
  std::string format() const override { return weight_->format(); }
  std::uint64_t stored_bytes() const override { return weight_->stored_bytes(); }

 private:
  WeightPtr weight_;
  Shape shape_;
  std::vector<std::int64_t> order_;
};

// llama.cpp's row order of q and k, applied to a checkpoint that is not in it; `heads` is how many heads the reader assumes.
std::function<void(BoundGraph&)> permuted(const std::string& suffix, std::int64_t heads) {
  return [suffix, heads](BoundGraph& network) {
    for (std::size_t i = 0; i < network.graph.params.size(); ++i) {
      const Param& param = network.graph.params[i];
      if (!ends_with(param.name, suffix)) continue;
      const std::int64_t rows = param.shape[0] / heads;
      std::vector<std::int64_t> order;
      for (std::int64_t row = 0; row < param.shape[0]; ++row) {
        const std::int64_t inside = row % rows;
        order.push_back(row - inside + (inside % 2) * (rows / 2) + inside / 2);
      }
      network.weights[i] = std::make_shared<Reordered>(network.weights[i], param.shape, order);
    }
  };
}

// The first entries of a weight over all heads, taken for each head (P31).
void slice_norms(BoundGraph& network) {
  for (Stage& stage : network.graph.stages) {
    auto* norm = std::get_if<Norm>(&stage.operation);
    if (norm == nullptr || norm->span != NormSpan::kToken) continue;
    norm->span = NormSpan::kHead;
    const std::int64_t head_dim = stage.outputs[0].shape.back();
    class Slice final : public Weight {
     public:
      Slice(WeightPtr weight, std::int64_t count) : weight_(std::move(weight)), shape_{count} {}
      const Shape& shape() const override { return shape_; }
      void read_row(std::int64_t, std::span<double> out) const override {
        std::vector<double> all(static_cast<std::size_t>(weight_->row_length()));
        weight_->read_row(0, all);
        std::copy_n(all.begin(), out.size(), out.begin());
      }
      std::string format() const override { return weight_->format(); }
      std::uint64_t stored_bytes() const override { return weight_->stored_bytes(); }

     private:
      WeightPtr weight_;
      Shape shape_;
    };
    auto& weight = network.weights[static_cast<std::size_t>(stage.params[0])];
    weight = std::make_shared<Slice>(weight, head_dim);
  }
}

void swap_gate_and_up(BoundGraph& network) {
  for (Stage& stage : network.graph.stages) {
    if (!std::holds_alternative<Experts>(stage.operation)) continue;
    for (std::size_t i = 0; i + 2 < stage.params.size(); i += 3)
      std::swap(stage.params[i], stage.params[i + 1]);
  }
}

// q and k are rotated before they are normalised (P23).
void norm_after_rope(BoundGraph& network) {
  auto& stages = network.graph.stages;
  for (std::size_t i = 0; i < stages.size(); ++i) {
    if (!ends_with(stages[i].name, "_rope")) continue;
    const auto norm = static_cast<std::size_t>(stages[i].inputs[0].stage);
    std::swap(stages[i].operation, stages[norm].operation);
    std::swap(stages[i].params, stages[norm].params);
    stages[norm].inputs = {stages[norm].inputs[0], Builder::kPositions};
    stages[i].inputs = {stages[i].inputs[0]};
  }
}

std::vector<Pitfall> pitfalls() {
  std::vector<Pitfall> list;
  const auto add = [&](const char* name, const char* checkpoint, const char* prompt,
                       std::function<void(BoundGraph&)> plant) {
    list.push_back({name, checkpoint, prompt, std::move(plant)});
  };
  for (const char* checkpoint : {"llama", "qwen2", "qwen3", "olmoe", "mixtral", "qwen3_moe"}) {
    add("P3_PairsInterleaved", checkpoint, "capital",
        every<Rope>([](Rope& rope) { rope.pairing = RopePairing::kInterleaved; }));
  }
  add("P4_Llama3ScalingIgnored", "llama", "long",
      every<Rope>([](Rope& rope) { rope.frequencies.scaling = RopeScaling::kNone; }));
  add("P5_ThetaOfTheClass", "qwen3", "capital",
      every<Rope>([](Rope& rope) { rope.frequencies.theta = 10000; }));
  add("P6_ScaleFromHiddenOverHeads", "qwen3", "capital",
      every<Attend>([](Attend& attend) { attend.scale = 1 / std::sqrt(32.0); }));
  add("P23_NormAfterRope", "qwen3", "capital", norm_after_rope);
  add("P25_NotRenormalised", "qwen3_moe", "capital",
      every<Router>([](Router& router) { router.renormalise = false; }));
  add("P26_OneAddedToNorms", "qwen3", "capital",
      every<Norm>([](Norm& norm) { norm.weight_offset = 1; }));
  add("P27_QueriesPermuted", "llama", "capital", permuted("q_proj.weight", 4));
  add("P27_KeysPermutedAsQueries", "llama", "capital", permuted("k_proj.weight", 4));
  add("P28_KeyBiasMissing", "qwen2", "capital",
      named<Linear>("attn.k", [](Linear& linear) { linear.bias = false; }));
  add("P28_ValueBiasMissing", "qwen2", "capital",
      named<Linear>("attn.v", [](Linear& linear) { linear.bias = false; }));
  add("P28_QueryBiasMissing", "qwen2", "capital",
      named<Linear>("attn.q", [](Linear& linear) { linear.bias = false; }));
  add("P31_NormOfEachHead", "olmoe", "capital", slice_norms);
  add("P32_Renormalised", "olmoe", "capital",
      every<Router>([](Router& router) { router.renormalise = true; }));
  add("P33_SoftmaxAfterChoice", "olmoe", "capital",
      every<Router>([](Router& router) { router.order = RouterOrder::kSelectThenScore; }));
  add("P48_GateAndUpSwapped", "mixtral", "capital", swap_gate_and_up);
  add("GroupsTiled", "llama", "capital",
      every<Attend>([](Attend& attend) { attend.groups = HeadGroups::kTile; }));
  add("WindowInvented", "llama", "long",
      every<Attend>([](Attend& attend) { attend.window = 128; }));
  add("FutureSeen", "llama", "capital", every<Attend>([](Attend& attend) { attend.future = 1; }));
  add("OutputTransposed", "llama", "capital",
      named<Linear>("layers.2.attn.out",
                    [](Linear& linear) { linear.order = WeightOrder::kInOut; }));
  add("EpsThousandfold", "qwen3", "capital", every<Norm>([](Norm& norm) { norm.eps *= 1e3; }));
  add("EpsOutsideRoot", "llama", "capital", every<Norm>([](Norm& norm) {
        norm.eps_place = EpsPlace::kOutsideRoot;
        norm.eps = 1e-3;
      }));
  add("MeanRemoved", "llama", "capital",
      every<Norm>([](Norm& norm) { norm.centre = NormCentre::kMean; }));
  add("GeluForSilu", "llama", "capital",
      every<Gated>([](Gated& gated) { gated.activation = Activation::kGeluTanh; }));
  return list;
}

class Planted : public testing::TestWithParam<Pitfall> {};

TEST_P(Planted, LeavesTheTolerance) {
  const Pitfall& pitfall = GetParam();
  const Model model = golden::load(pitfall.checkpoint);
  const golden::Golden golden(pitfall.checkpoint);
  const auto ids = golden.ids(pitfall.prompt);
  const auto reference = golden.values(pitfall.prompt + "/logits_f32");
  constexpr double kTolerance = 2e-5;
  EXPECT_LE(golden::relative_l2(golden::logits(model.network, ids, Precision::kFp32, 2, 0).data,
                                reference),
            kTolerance);
  BoundGraph planted = model.network;
  pitfall.plant(planted);
  EXPECT_GE(
      golden::relative_l2(golden::logits(planted, ids, Precision::kFp32, 2, 0).data, reference),
      20 * kTolerance);
}

INSTANTIATE_TEST_SUITE_P(Pitfalls, Planted, testing::ValuesIn(pitfalls()),
                         [](const auto& parameter) {
                           return parameter.param.name + "_" + parameter.param.checkpoint;
                         });

// P3 hides from a prompt of one token: at position 0 nothing is rotated. The suite's prompts are therefore longer.
TEST(PitfallScope, PairingIsInvisibleAtPositionZero) {
  const Model model = golden::load("llama");
  const golden::Golden golden("llama");
  BoundGraph planted = model.network;
  every<Rope>([](Rope& rope) { rope.pairing = RopePairing::kInterleaved; })(planted);
  const Tensor logits = golden::logits(planted, golden.ids("one"), Precision::kFp32, 1, 0);
  EXPECT_LE(golden::relative_l2(logits.data, golden.values("one/logits_f32")), 2e-5);
}

// P24, P29: a wrong head size or an untied head is a named error, never a silent slice.
TEST(PitfallScope, WrongShapesAreNamed) {
  const auto folder = std::filesystem::temp_directory_path() / "plumb_pitfalls";
  std::filesystem::create_directories(folder);
  const auto attempt = [&](const std::string& name, const std::string& from,
                           const std::string& to) {
    auto text = read_text_file(golden::model_folder(name) / "config.json", 1 << 20).value();
    const auto place = text.find(from);
    EXPECT_NE(place, std::string::npos) << from;
    text.replace(place, from.size(), to);
    std::ofstream(folder / "config.json") << text;
    const auto model =
        Model::load(golden::model_folder(name), {.config_file = folder / "config.json"});
    EXPECT_FALSE(model.ok());
    return model.ok() ? std::string() : model.error().message;
  };
  EXPECT_NE(attempt("qwen3", "\"head_dim\": 48", "\"head_dim\": 32")
                .find("model.layers.0.self_attn.q_proj.weight"),
            std::string::npos);
  EXPECT_NE(attempt("qwen3", "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false")
                .find("lm_head.weight"),
            std::string::npos);
  EXPECT_NE(attempt("llama", "\"num_hidden_layers\": 4", "\"num_hidden_layers\": 3")
                .find("model.layers.3."),
            std::string::npos);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace plumb
