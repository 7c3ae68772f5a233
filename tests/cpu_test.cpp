// The cpu executor: transformers' logits and greedy tokens on every checkpoint, the reference executor's values at every stage
// that it materialises, and its contract: the same bits for every chunk, batch and thread count on every instruction set.
#include <atomic>
#include <cmath>
#include <map>

#include "cpu_runs.h"
#include "engine/convert.h"
#include "golden.h"
#include "io/io_test_support.h"

namespace plumb {
namespace {

constexpr double kTolerance = 2e-5;  // correct float32 engines measure 2e-7 to 1e-6 here
// Weights and activations as codes of 16 bits measure 3e-5 to 2e-4. Two networks spread what goes into them: float32 measures 5e-6 there
// and codes 1e-3.
double codes_tolerance(const std::string& checkpoint) {
  return checkpoint == "qwen3_5_moe" || checkpoint == "qwen3_next" ? 3e-3 : 4e-4;
}

// The likeliest tokens, one after the other.
std::vector<std::int32_t> chosen_by(const Executor& executor, std::vector<std::int32_t> next, std::size_t count) {
  std::vector<std::int32_t> chosen;
  const auto sequence = executor.start();
  while (chosen.size() < count) {
    const auto logits = executor.forward(*sequence, next, {});
    EXPECT_TRUE(logits.ok()) << (logits.ok() ? "" : logits.error().message);
    if (!logits.ok()) break;
    const auto row = logits.value().row(0);
    next = {static_cast<std::int32_t>(std::max_element(row.begin(), row.end()) - row.begin())};
    chosen.push_back(next[0]);
  }
  return chosen;
}

class CpuCheckpoint : public testing::TestWithParam<std::string> {};

TEST_P(CpuCheckpoint, LogitsAndGreedyTokensAreTransformers) {
  const Model model = golden::load(GetParam());
  auto source = open_safetensors(golden::checkpoints() / GetParam() / "golden/golden.safetensors");
  ASSERT_TRUE(source.ok());
  for (const Isa isa : cpu::available_isas()) {
    const auto executor = executor_of(model, isa, Activations::kExact);
    for (const std::string prompt : {"capital", "unicode", "long"}) {
      const auto ids = golden::ids(*source.value(), prompt + "/ids");
      const Tensor expected = golden::tensor(*source.value(), prompt + "/logits_f32");
      const Tensor logits = all_logits(*executor, ids);
      ASSERT_EQ(logits.shape, expected.shape);
      const double distance = golden::distance(logits, expected);
      EXPECT_LE(distance, kTolerance) << prompt << ", " << to_string(isa);
      if (isa == cpu::available_isas().back())
        std::printf("%-14s %-8s %s: distance %.1e\n", GetParam().c_str(), prompt.c_str(),
                    std::string(to_string(isa)).c_str(), distance);
    }
  }
  const auto executor = executor_of(model, cpu::available_isas().back(), Activations::kExact);
  const auto greedy = golden::ids(*source.value(), "capital/greedy_f32");
  EXPECT_EQ(chosen_by(*executor, golden::ids(*source.value(), "capital/ids"), greedy.size()), greedy);
}

// The checkpoints are of bfloat16, which the automatic mode multiplies as codes of 16 bits where it can.
TEST_P(CpuCheckpoint, TheAutomaticModeIsNearAndChoosesTransformersTokens) {
  const Model model = golden::load(GetParam());
  auto source = open_safetensors(golden::checkpoints() / GetParam() / "golden/golden.safetensors");
  ASSERT_TRUE(source.ok());
  const auto greedy = golden::ids(*source.value(), "capital/greedy_f32");
  for (const Isa isa : cpu::available_isas()) {
    const bool codes = cpu::kernels_for(isa).multiply_int16 != nullptr && cpu::kernels_for(isa).multiply_bf16 == nullptr;
    const auto executor = executor_of(model, isa, Activations::kAuto);
    for (const std::string prompt : {"capital", "unicode", "long"}) {
      const double distance = golden::distance(all_logits(*executor, golden::ids(*source.value(), prompt + "/ids")),
                                               golden::tensor(*source.value(), prompt + "/logits_f32"));
      EXPECT_LE(distance, codes ? codes_tolerance(GetParam()) : kTolerance) << prompt << ", " << to_string(isa);
      if (isa == cpu::available_isas().back())
        std::printf("%-14s %-8s %s, auto: distance %.1e\n", GetParam().c_str(), prompt.c_str(), std::string(to_string(isa)).c_str(), distance);
    }
    EXPECT_EQ(chosen_by(*executor, golden::ids(*source.value(), "capital/ids"), greedy.size()), greedy) << to_string(isa);
  }
}

// Keeps what it sees.
class Keeper final : public StageObserver {
 public:
  bool wants(std::string_view) const override { return true; }
  void observe(std::string_view name, const Tensor& value) override {
    values[std::string(name)] = value;
  }
  std::map<std::string, Tensor> values;
};

// Masked scores are minus infinity in both; the others are compared against the stage's usual size, because values near an
// exact zero have no relative error.
void expect_near(const std::string& what, const Tensor& own, const Tensor& reference) {
  ASSERT_EQ(own.shape, reference.shape) << what;
  double norm = 0;
  double difference = 0;
  for (std::size_t i = 0; i < own.data.size(); ++i) {
    if (std::isinf(reference.data[i])) {
      ASSERT_EQ(own.data[i], reference.data[i]) << what << ", element " << i;
      continue;
    }
    norm += reference.data[i] * reference.data[i];
    difference += (own.data[i] - reference.data[i]) * (own.data[i] - reference.data[i]);
  }
  EXPECT_LE(std::sqrt(difference), 1e-4 * std::sqrt(norm)) << what;
}

TEST_P(CpuCheckpoint, EachStageIsTheReferences) {
  const Model model = golden::load(GetParam());
  const auto ids = golden::Golden(GetParam()).ids("unicode");
  Keeper reference;
  all_logits(*make_reference_executor(model.network, Precision::kFp32, 2), ids, 0, &reference);
  for (const Isa isa : cpu::available_isas()) {
    Keeper own;
    all_logits(*executor_of(model, isa, Activations::kExact), ids, 0, &own);
    EXPECT_EQ(own.values.size(), reference.values.size());
    for (const auto& [name, value] : reference.values) {
      ASSERT_TRUE(own.values.contains(name)) << name;
      expect_near(name + ", " + std::string(to_string(isa)), own.values.at(name), value);
    }
  }
}

// Whoever watches changes nothing, in chunks too.
TEST_P(CpuCheckpoint, BeingSeenChangesNoBit) {
  const Model model = golden::load(GetParam());
  const auto ids = golden::Golden(GetParam()).ids("long");
  for (const Isa isa : cpu::available_isas()) {
    const auto executor = executor_of(model, isa, Activations::kShort);
    const Tensor unseen = all_logits(*executor, ids);
    for (const std::int64_t chunk : {0, 13}) {
      Keeper keeper;
      EXPECT_EQ(all_logits(*executor, ids, chunk, &keeper).data, unseen.data) << to_string(isa);
      EXPECT_FALSE(keeper.values.empty());
    }
  }
}

TEST_P(CpuCheckpoint, ChunksThreadsAndBatchesChangeNoBit) {
  const Model model = golden::load(GetParam());
  const golden::Golden golden(GetParam());
  const auto ids = golden.ids("long");
  const auto other = golden.ids("unicode");
  for (const Isa isa : cpu::available_isas()) {
    for (const Activations activations : {Activations::kExact, Activations::kShort})
      expect_same_bits(model, isa, activations, CacheType::kF32, ids, other);
  }
}

// The same for each type of keys and values, and how far each takes the logits from those of float32.
TEST_P(CpuCheckpoint, CacheTypesAreNearAndNoSplitChangesThem) {
  const Model model = golden::load(GetParam());
  const golden::Golden golden(GetParam());
  const auto ids = golden.ids("long");
  const auto other = golden.ids("unicode");
  const bool keeps_keys = std::any_of(model.network.graph.states.begin(), model.network.graph.states.end(), [](const State& state) {
    return std::holds_alternative<KeyValueState>(state.kind);
  });
  struct Limit {
    CacheType cache;
    double distance;
  };
  // Weights at random spread a rounding of one value in 2^11, 2^8 and 2^7.
  for (const Limit limit : {Limit{CacheType::kF16, 3e-3}, Limit{CacheType::kBF16, 3e-2}, Limit{CacheType::kQ8_0, 6e-2}}) {
    for (const Isa isa : cpu::available_isas()) {
      const auto executor = executor_of(model, isa, Activations::kExact, 2, limit.cache);
      if (!keeps_keys) {
        EXPECT_FALSE(executor->forward(*executor->start(), ids, {}).ok());
        continue;
      }
      const Tensor exact = all_logits(*executor_of(model, isa, Activations::kExact), ids);
      const Tensor whole = all_logits(*executor, ids);
      EXPECT_EQ(all_logits(*executor, ids, 7).data, whole.data) << to_string(isa) << ", " << to_string(limit.cache);
      expect_same_bits(model, isa, Activations::kExact, limit.cache, ids, other);
      const double distance = golden::distance(whole, exact);
      EXPECT_LE(distance, limit.distance) << to_string(isa) << ", " << to_string(limit.cache);
      EXPECT_GT(distance, 0) << to_string(isa) << ", " << to_string(limit.cache);
      if (isa == cpu::available_isas().back())
        std::printf("%-14s cache %s: distance %.1e\n", GetParam().c_str(), std::string(to_string(limit.cache)).c_str(), distance);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, CpuCheckpoint,
                         testing::ValuesIn(golden::names("golden/golden.safetensors")),
                         golden::test_name);

// Every other model of tests/data, in whatever form it is stored: GGUF, MLX, compressed-tensors, FP8, and the variants.
std::vector<std::string> stored_models() {
  std::set<std::string> found;
  for (const std::string folder : {"gguf", "mlx", "quantised", "variants"}) {
    for (const auto& entry : std::filesystem::directory_iterator(golden::data_folder() / folder)) {
      if (entry.is_directory()) found.insert(folder + "/" + entry.path().filename().string());
    }
  }
  return {found.begin(), found.end()};
}

class CpuStored : public testing::TestWithParam<std::string> {};

TEST_P(CpuStored, LogitsAreTheReferencesAndNoSplitChangesThem) {
  const bool shared = GetParam().starts_with("fixtures/");
  if (shared && !test::has_shared(GetParam())) return;
  const auto folder = shared ? std::filesystem::path(PLUMB_SHARED_DIR) / GetParam() : golden::data_folder() / GetParam();
  const auto file = folder / "model.gguf";
  const auto model = Model::load(std::filesystem::exists(file) ? file : folder, {});
  ASSERT_TRUE(model.ok()) << model.error().message;
  std::vector<std::int32_t> ids;
  for (std::int32_t i = 0; i < 57; ++i)
    ids.push_back((i * 37 + 11) % 60);
  const std::vector<std::int32_t> other(ids.rbegin(), ids.rbegin() + 9);
  const Tensor expected = all_logits(*make_reference_executor(model.value().network, Precision::kFp32, 2), ids);
  for (const Isa isa : cpu::available_isas()) {
    const auto exact = executor_of(model.value(), isa, Activations::kExact);
    EXPECT_LE(golden::distance(all_logits(*exact, ids), expected), kTolerance) << to_string(isa);
    const auto brief = executor_of(model.value(), isa, Activations::kShort);
    const Tensor whole = all_logits(*brief, ids);
    EXPECT_LE(golden::distance(whole, expected), 0.2) << to_string(isa);
    expect_same_bits(model.value(), isa, Activations::kShort, CacheType::kF32, ids, other);
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, CpuStored, testing::ValuesIn(stored_models()), [](const auto& entry) {
  std::string name = entry.param;
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return name;
});

// What no model of tests/data has: blocks that nothing here writes, and experts whose scales lie beside them.
INSTANTIATE_TEST_SUITE_P(Shared, CpuStored,
                         testing::Values("fixtures/quantised/demo-qwen3-gguf-iq4_xs", "fixtures/quantised/demo-qwen3-gguf-q2_k",
                                         "fixtures/quantised/gpt_oss-mxfp4", "fixtures/quantised/deepseek_v4-fp8-mxfp4",
                                         "fixtures/quantised/deepseek_v4-fp8-nvfp4", "fixtures/quantised/qwen3_moe-ct-nvfp4"),
                         [](const auto& entry) {
                           std::string name = entry.param.substr(sizeof("fixtures/quantised/") - 1);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// Each form that convert writes: the trained model of models/demo, whose rows hold whole blocks of all of them.
class CpuConverted : public testing::TestWithParam<std::string> {};

TEST_P(CpuConverted, LogitsAreTheReferencesAndNoSplitChangesThem) {
  const test::TemporaryFolder folder;
  const auto file = folder / "model.gguf";
  const Status written = convert_to_gguf(golden::data_folder() / "../../models/demo", file, {.type = *gguf_file_type(GetParam()), .threads = 2}, {});
  ASSERT_TRUE(written.ok()) << written.error().message;
  const auto model = Model::load(file, {});
  ASSERT_TRUE(model.ok()) << model.error().message;
  std::vector<std::int32_t> ids;
  for (std::int32_t i = 0; i < 57; ++i)
    ids.push_back((i * 37 + 11) % 1000);
  const std::vector<std::int32_t> other(ids.rbegin(), ids.rbegin() + 9);
  const Tensor expected = all_logits(*make_reference_executor(model.value().network, Precision::kFp32, 2), ids);
  for (const Isa isa : cpu::available_isas()) {
    const auto exact = executor_of(model.value(), isa, Activations::kExact);
    EXPECT_LE(golden::distance(all_logits(*exact, ids), expected), kTolerance) << to_string(isa);
    expect_same_bits(model.value(), isa, Activations::kShort, CacheType::kF32, ids, other);
  }
  const Isa best = cpu::available_isas().back();
  expect_same_bits(model.value(), best, Activations::kExact, CacheType::kF32, ids, other);
  for (const CacheType cache : {CacheType::kF16, CacheType::kBF16, CacheType::kQ8_0})
    expect_same_bits(model.value(), best, Activations::kShort, cache, ids, other);
}

INSTANTIATE_TEST_SUITE_P(Types, CpuConverted,
                         testing::Values("F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q4_K_M", "Q5_K_M", "Q6_K"),
                         [](const auto& entry) { return std::string(entry.param); });

// The experts of each token and their weights: those of the reference executor, which takes each token's experts for itself; and the
// same bits whether this one groups many tokens by expert or runs one.
TEST_P(CpuCheckpoint, ExpertsAndTheirWeightsAreTheReferencesForOneTokenAndForMany) {
  const Model model = golden::load(GetParam());
  std::vector<std::pair<std::string, std::string>> names;  // of ids and weights
  for (const Stage& stage : model.network.graph.stages) {
    if (std::holds_alternative<Router>(stage.operation)) names.emplace_back(stage.outputs[1].name, stage.outputs[2].name);
  }
  if (names.empty()) return;  // no experts
  const auto ids = golden::Golden(GetParam()).ids("unicode");
  Keeper reference;
  all_logits(*make_reference_executor(model.network, Precision::kFp32, 2), ids, 0, &reference);
  for (const Isa isa : cpu::available_isas()) {
    const auto executor = executor_of(model, isa, Activations::kExact);
    Keeper together;
    all_logits(*executor, ids, 0, &together);
    for (const auto& [chosen, weights] : names) {
      EXPECT_EQ(together.values.at(chosen).data, reference.values.at(chosen).data) << chosen << ", " << to_string(isa);
      expect_near(weights + ", " + std::string(to_string(isa)), together.values.at(weights), reference.values.at(weights));
    }
    const auto sequence = executor->start();
    for (std::size_t t = 0; t < ids.size(); ++t) {
      Keeper one;
      const ForwardOptions options = {.rows = LogitRows::kLast, .chunk = 0, .observer = &one, .progress = {}};
      ASSERT_TRUE(executor->forward(*sequence, std::span(ids).subspan(t, 1), options).ok());
      for (const auto& [chosen, weights] : names) {
        for (const std::string& name : {chosen, weights}) {
          const auto row = together.values.at(name).row(static_cast<std::int64_t>(t));
          EXPECT_TRUE(std::equal(row.begin(), row.end(), one.values.at(name).data.begin()))
              << name << ", token " << t << ", " << to_string(isa);
        }
      }
    }
  }
}

// What weights of experts were read, by parameter.
class WatchedWeight final : public Weight {
 public:
  explicit WatchedWeight(WeightPtr base) : base_(std::move(base)) {}
  const Shape& shape() const override { return base_->shape(); }
  void read_row(std::int64_t row, std::span<double> out) const override {
    read = true;
    base_->read_row(row, out);
  }
  std::optional<DType> stored_dtype() const override { return base_->stored_dtype(); }
  std::span<const std::byte> stored_row(std::int64_t row) const override {
    read = true;
    return base_->stored_row(row);
  }
  std::string format() const override { return base_->format(); }
  std::uint64_t stored_bytes() const override { return base_->stored_bytes(); }

  mutable std::atomic<bool> read = false;

 private:
  WeightPtr base_;
};

// Of experts that no token chose, no byte is read.
TEST(Cpu, ExpertsThatAreNotChosenAreNotRead) {
  for (const std::string name : {"olmoe", "gpt_oss", "qwen3_moe", "mixtral"}) {
    const Model model = golden::load(name);
    BoundGraph network = model.network;
    std::vector<const WatchedWeight*> watched;
    for (WeightPtr& weight : network.weights) {
      auto own = std::make_shared<WatchedWeight>(weight);
      watched.push_back(own.get());
      weight = std::move(own);
    }
    const auto executor = cpu::make_cpu_executor(
        network, {.isa = cpu::available_isas().back(), .activations = Activations::kAuto, .threads = 2});
    Keeper keeper;
    const std::vector<std::int32_t> ids = {7};
    all_logits(*executor, ids, 0, &keeper);
    std::size_t layers = 0;
    for (const Stage& stage : network.graph.stages) {
      const auto* experts = std::get_if<Experts>(&stage.operation);
      if (experts == nullptr) continue;
      ++layers;
      const Value chosen = stage.inputs[1];
      const auto& ids_of_layer = keeper.values.at(network.graph.output(chosen).name).data;
      const std::size_t per_expert = stage.params.size() / static_cast<std::size_t>(experts->experts);
      for (std::size_t p = 0; p < stage.params.size(); ++p) {
        const WatchedWeight& weight = *watched[static_cast<std::size_t>(stage.params[p])];
        if (weight.shape().size() < 2) continue;  // a bias is read at once
        const auto expert = static_cast<double>(p / per_expert);
        const bool is_chosen = std::find(ids_of_layer.begin(), ids_of_layer.end(), expert) != ids_of_layer.end();
        EXPECT_EQ(weight.read, is_chosen) << name << ", " << stage.name << ", expert " << expert;
      }
    }
    EXPECT_GT(layers, 0U) << name;
  }
}

TEST(Cpu, ASequenceTwiceInABatchIsAnError) {
  const Model model = golden::load("qwen3");
  const auto executor = executor_of(model, Isa::kPortable, Activations::kExact);
  const auto sequence = executor->start();
  const std::vector<std::int32_t> ids = {1, 2};
  const BatchItem twice[] = {{sequence.get(), ids}, {sequence.get(), ids}};
  EXPECT_FALSE(executor->forward_batch(twice, {}).ok());
  const std::vector<std::int32_t> outside = {1 << 30};
  EXPECT_FALSE(executor->forward(*sequence, outside, {}).ok());
  EXPECT_FALSE(executor->forward(*sequence, {}, {}).ok());
}

}  // namespace
}  // namespace plumb
