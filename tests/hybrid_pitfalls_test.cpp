// The pitfalls of the hybrid decoders, planted: each wrong variant must take the logits far from
// transformers', or the goldens would not have seen it. specs/architectures.md, section 1.12, names
// them; P9, P14 to P16, P18 and P19 have tests on the stage alone as well (src/reference).
#include <fstream>

#include "core/mapped_file.h"
#include "golden.h"
#include "graph/builder.h"

namespace plumb {
namespace {

constexpr double kTolerance = 2e-5;
constexpr double kFar = 20 * kTolerance;

using Change = std::function<void(BoundGraph&)>;

// Applies `f` to every operation of a kind, and to its stage; at least one must be there.
template <class Operation>
Change each(std::function<void(Operation&, Stage&)> f) {
  return [f](BoundGraph& network) {
    int found = 0;
    for (Stage& stage : network.graph.stages) {
      if (auto* operation = std::get_if<Operation>(&stage.operation)) {
        f(*operation, stage);
        ++found;
      }
    }
    EXPECT_GT(found, 0);
  };
}

bool ends_with(const std::string& name, std::string_view end) {
  return name.size() >= end.size() && name.substr(name.size() - end.size()) == end;
}

class HybridPitfalls : public testing::Test {
 protected:
  void SetUp() override { open("qwen3_5"); }

  void open(const std::string& name) {
    const auto folder = golden::data_folder() / "checkpoints" / name;
    auto model = Model::load(folder, {});
    ASSERT_TRUE(model.ok()) << model.error().message;
    model_ = std::make_unique<Model>(std::move(model).value());
    const auto source = open_safetensors(folder / "golden/golden.safetensors");
    ASSERT_TRUE(source.ok()) << source.error().message;
    ids_ = golden::ids(*source.value(), "long/ids");
    expected_ = golden::tensor(*source.value(), "long/logits_f32");
    ASSERT_LE(distance([](BoundGraph&) {}), kTolerance);
  }

  // Of rows [first, end) with the last `one_by_one` tokens decoded, after a change of the network.
  double distance(const Change& change, std::size_t one_by_one = 0, std::int64_t first = 0,
                  std::int64_t end = 200) {
    BoundGraph changed = model_->network;
    change(changed);
    const Tensor logits = golden::run(changed, ids_, {.one_by_one = one_by_one});
    return golden::distance(rows(logits, first, end), rows(expected_, first, end));
  }

  static Tensor rows(const Tensor& x, std::int64_t first, std::int64_t end) {
    Tensor part({end - first, x.width()});
    std::copy_n(x.data.begin() + first * x.width(), part.data.size(), part.data.begin());
    return part;
  }

  void expect_far(const char* what, double measured, double least = kFar) {
    std::printf("%-48s %.1e\n", what, measured);
    EXPECT_GT(measured, least) << what;
  }

  std::unique_ptr<Model> model_;
  std::vector<std::int32_t> ids_;
  Tensor expected_;
};

TEST_F(HybridPitfalls, P7UnitOffsets) {
  const auto offset = [](double value) {
    return each<Norm>([value](Norm& norm, Stage&) { norm.weight_offset = value; });
  };
  expect_far("P7 1 is never added", distance(offset(0)));
  expect_far("P7 1 is added twice", distance(offset(2)));
  expect_far("P7 1 is added to linear_attn.norm",
             distance(each<GatedNorm>([](GatedNorm& g, Stage&) { g.norm.weight_offset = 1; })));
}

// A file counts its prediction head as a layer: the layer's tensors are missing, and said to be.
TEST_F(HybridPitfalls, P8PredictionHeadAsALayer) {
  const auto folder = golden::data_folder() / "checkpoints/qwen3_5";
  std::string text = read_text_file(folder / "config.json", 1 << 20).value();
  for (const auto& [from, to] :
       {std::pair<std::string, std::string>{"\"num_hidden_layers\": 4", "\"num_hidden_layers\": 5"},
        {"\"full_attention\"", "\"full_attention\", \"full_attention\""}}) {
    ASSERT_NE(text.find(from), std::string::npos);
    text.replace(text.find(from), from.size(), to);
  }
  const auto file = std::filesystem::path(testing::TempDir()) / "five_layers.json";
  std::ofstream(file) << text;
  const auto model = Model::load(folder, {.config_file = file});
  ASSERT_FALSE(model.ok());
  EXPECT_NE(model.error().message.find("model.layers.4."), std::string::npos)
      << model.error().message;
}

TEST_F(HybridPitfalls, P9HeadMapping) {
  const auto tiled =
      each<DeltaRule>([](DeltaRule& rule, Stage&) { rule.groups = HeadGroups::kTile; });
  expect_far("P9 key head h % heads, Qwen3.5", distance(tiled));
  open("qwen3_5_moe");
  expect_far("P9 key head h % heads, three to one", distance(tiled));
  open("qwen3_next");
  expect_far("P9 key head h % heads, Qwen3-Next", distance(tiled));
}

TEST_F(HybridPitfalls, P10QueryAndGateAsHalves) {
  expect_far("P10 [queries | gates] over all heads",
             distance(each<Slice>([](Slice& slice, Stage& stage) {
               if (ends_with(stage.name, "attn.q") || ends_with(stage.name, "attn.gate")) {
                 slice.first *= slice.groups;
                 slice.groups = 1;
               }
             })));
}

TEST_F(HybridPitfalls, P11Rotation) {
  expect_far("P11 all channels rotate",
             distance(each<Rope>([](Rope& rope, Stage&) { rope.dims *= 4; })));
  // Pairs (i, i + head_dim / 2) at the same frequencies: those beyond the rotated ones stand still.
  expect_far("P11 pairs half a head apart", distance(each<Rope>([](Rope& rope, Stage&) {
               const auto turning = static_cast<std::size_t>(rope.dims / 2);
               rope.dims *= 4;
               rope.frequencies.theta = std::pow(rope.frequencies.theta, 4);
               rope.frequencies.divisors.assign(4 * turning, 1e30);
               std::fill_n(rope.frequencies.divisors.begin(), turning, 1.0);
             })));
  expect_far(
      "P11 interleaved pairs",
      distance(each<Rope>([](Rope& rope, Stage&) { rope.pairing = RopePairing::kInterleaved; })));
  expect_far("P11 the last channels rotate",
             distance(each<Rope>([](Rope& rope, Stage&) { rope.slice = RopeSlice::kLast; })));
  for (const double theta : {1e5, 1e6}) {
    expect_far(theta == 1e5 ? "P11 base 1e5" : "P11 base 1e6",
               distance(each<Rope>([&](Rope& rope, Stage&) { rope.frequencies.theta = theta; })));
  }
}

TEST_F(HybridPitfalls, P12Convolution) {
  expect_far("P12 taps reversed", distance(each<Convolution>([](Convolution& conv, Stage&) {
               conv.order = TapOrder::kNewestFirst;
             })));
  expect_far("P12 activation before", distance(each<Convolution>([](Convolution& conv, Stage&) {
               conv.activation_place = ActivationPlace::kBefore;
             })));
  // The prefill is right, and so is the first token that it yields.
  const auto outputs =
      each<Convolution>([](Convolution& conv, Stage&) { conv.window = WindowHolds::kOutputs; });
  EXPECT_LE(distance(outputs, 20, 0, 180), kTolerance);
  expect_far("P12 window of outputs, first decoded token", distance(outputs, 20, 180, 181));
}

TEST_F(HybridPitfalls, P13WindowIsLost) {
  const auto nothing =
      each<Convolution>([](Convolution& conv, Stage&) { conv.window = WindowHolds::kNothing; });
  EXPECT_LE(distance(nothing), kTolerance);  // one prefill cannot show it
  expect_far("P13 no window, first decoded token", distance(nothing, 20, 180, 181));
}

TEST_F(HybridPitfalls, P14RoundedState) {
  const auto rounded = each<DeltaRule>(
      [](DeltaRule& rule, Stage&) { rule.state_precision = ScalePrecision::kBfloat16; });
  expect_far("P14 bfloat16 state", distance(rounded));
}

TEST_F(HybridPitfalls, P16OrderOfTheRule) {
  expect_far("P16 decay after the write", distance(each<DeltaRule>([](DeltaRule& rule, Stage&) {
               rule.decay = DecayPlace::kAfterWrite;
             })));
  expect_far("P16 read before the write", distance(each<DeltaRule>([](DeltaRule& rule, Stage&) {
               rule.read = ReadPlace::kBeforeWrite;
             })));
  expect_far("P16 beta on the key, too", distance(each<DeltaRule>([](DeltaRule& rule, Stage&) {
               rule.strength = WriteStrength::kOnValueAndKey;
             })));
}

// The norm of each head's output cancels a constant factor, but for its eps.
TEST_F(HybridPitfalls, P17ReadOutScale) {
  const auto scaled = [](double factor) {
    return each<L2Norm>([factor](L2Norm& norm, Stage& stage) {
      if (ends_with(stage.name, "linear.q")) norm.scale *= factor;
    });
  };
  expect_far("P17 no scale on the queries", distance(scaled(std::sqrt(32.0))));
  expect_far("P17 scaled twice", distance(scaled(1 / std::sqrt(32.0))));
}

// A parameter of which a function is read.
class Mapped final : public Weight {
 public:
  Mapped(WeightPtr base, std::function<double(double)> f)
      : base_(std::move(base)), f_(std::move(f)) {}
  const Shape& shape() const override { return base_->shape(); }
  void read_row(std::int64_t row, std::span<double> out) const override {
    base_->read_row(row, out);
    for (double& value : out)
      value = f_(value);
  }
  std::string format() const override { return base_->format(); }
  std::uint64_t stored_bytes() const override { return base_->stored_bytes(); }

 private:
  WeightPtr base_;
  std::function<double(double)> f_;
};

Change with_rates(DecayRate rate, std::function<double(double)> f) {
  return [rate, f](BoundGraph& network) {
    for (Stage& stage : network.graph.stages) {
      auto* decay = std::get_if<LogDecay>(&stage.operation);
      if (decay == nullptr) continue;
      decay->rate = rate;
      WeightPtr& weight = network.weights[static_cast<std::size_t>(stage.params[0])];
      weight = std::make_shared<Mapped>(weight, f);
    }
  };
}

TEST_F(HybridPitfalls, P18Rates) {
  const auto stored = [](double a) { return -std::exp(a); };  // as GGUF's ssm_a
  EXPECT_LE(distance(with_rates(DecayRate::kAsStored, stored)), kTolerance);
  expect_far("P18 exponentiated twice", distance(with_rates(DecayRate::kMinusExp, stored)));
  expect_far("P18 no exponential",
             distance(with_rates(DecayRate::kAsStored, [](double a) { return -a; })));
  // States that grow: the logits end as NaN, which is an error, or are far away.
  BoundGraph changed = model_->network;
  with_rates(DecayRate::kAsStored, [](double a) { return std::exp(a); })(changed);
  const auto executor = make_reference_executor(changed, Precision::kFp32, 2);
  const auto sequence = executor->start();
  const auto logits = executor->forward(
      *sequence, ids_, {.rows = LogitRows::kAll, .observer = nullptr, .progress = {}});
  expect_far("P18 the sign is lost", logits.ok() ? golden::distance(logits.value(), expected_) : 1);
}

TEST_F(HybridPitfalls, P19EpsOfUnitVectors) {
  const auto placed = [](L2Eps place) {
    return each<L2Norm>([place](L2Norm& norm, Stage&) { norm.eps_place = place; });
  };
  expect_far("P19 eps on the mean", distance(placed(L2Eps::kAddToMean)));
  // 1e-6 beside a sum of squares: the vectors are seldom short enough for it to matter much.
  expect_far("P19 eps as the least norm", distance(placed(L2Eps::kLeastNorm)), kTolerance);
}

TEST_F(HybridPitfalls, P20GateAndNorm) {
  expect_far("P20 gate before the norm", distance(each<GatedNorm>([](GatedNorm& norm, Stage&) {
               norm.place = GatePlace::kBeforeNorm;
             })));
  expect_far("P20 norm over all heads", distance(each<GatedNorm>([](GatedNorm& norm, Stage&) {
               norm.norm.span = NormSpan::kToken;
             })));
}

// Inserts a stage that keeps positions at `last`, and lets the rotation read it.
Change positions_stop_at(double last) {
  return [last](BoundGraph& network) {
    auto& stages = network.graph.stages;
    const int at = Builder::kPositions.stage + 1;
    for (Stage& stage : stages) {
      for (Value& input : stage.inputs)
        input.stage += input.stage >= at ? 1 : 0;
      if (std::holds_alternative<Rope>(stage.operation)) stage.inputs[1] = Value{at, 0};
    }
    ++network.graph.logits.stage;
    Stage clamp = stages[1];
    clamp.name = "clamped";
    clamp.operation = Clamp{.limit = last};
    clamp.inputs = {Builder::kPositions};
    clamp.outputs[0].name = "clamped";
    stages.insert(stages.begin() + at, clamp);
  };
}

TEST_F(HybridPitfalls, P21PositionsAndCachesOfLayers) {
  EXPECT_LE(distance(positions_stop_at(1000), 50), kTolerance);
  expect_far("P21 positions stop after the prompt", distance(positions_stop_at(149), 50, 150));
  // Two attention layers, one cache: the index of the layer among its kind is taken for another.
  open("qwen3_next");
  expect_far("P21 two layers share a cache", distance([](BoundGraph& network) {
               int first = -1;
               for (Stage& stage : network.graph.stages) {
                 if (!std::holds_alternative<Attend>(stage.operation)) continue;
                 if (first < 0) first = stage.states[0];
                 stage.states[0] = first;
               }
             }));
}

// The prompt's last token is fed in the prefill and again as the first step.
TEST_F(HybridPitfalls, P22TokenFedTwice) {
  std::vector<std::int32_t> twice = ids_;
  twice.insert(twice.begin() + 150, twice[149]);
  const Tensor logits = golden::run(model_->network, twice, {.one_by_one = 51});
  expect_far("P22 token fed twice",
             golden::distance(rows(logits, 151, 201), rows(expected_, 150, 200)));
}

}  // namespace
}  // namespace plumb
