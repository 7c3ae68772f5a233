// The contract in the stored forms of which no model lies here and which nothing here writes: the trained model of models/demo with blocks
// at random in place of its projections.
#include <cmath>

#include "cpu/weights_test_support.h"
#include "cpu_runs.h"
#include "golden.h"

namespace plumb {
namespace {

class CpuForms : public testing::TestWithParam<DType> {};

TEST_P(CpuForms, LogitsAreTheReferencesAndNoSplitChangesThem) {
  const DType form = GetParam();
  auto loaded = Model::load(golden::data_folder() / "../../models/demo", {});
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  Model& model = loaded.value();
  int replaced = 0;
  for (std::size_t i = 0; i < model.network.weights.size(); ++i) {
    WeightPtr& weight = model.network.weights[i];
    const bool projection = model.network.graph.params[i].name.find("_proj.") != std::string::npos;
    if (!projection || weight->row_length() % info(form).block_elements != 0) continue;
    weight = cpu::random_weight(form, weight->rows(), weight->row_length());
    ++replaced;
  }
  ASSERT_GE(replaced, 16);
  std::vector<std::int32_t> ids;
  for (std::int32_t i = 0; i < 57; ++i)
    ids.push_back((i * 37 + 11) % 1000);
  const std::vector<std::int32_t> other(ids.rbegin(), ids.rbegin() + 9);
  const Tensor expected = all_logits(*make_reference_executor(model.network, Precision::kFp32, 2), ids);
  for (const Isa isa : cpu::available_isas()) {
    const double distance = golden::distance(all_logits(*executor_of(model, isa, Activations::kExact), ids), expected);
    EXPECT_LE(distance, 2e-5) << to_string(isa);
    expect_same_bits(model, isa, Activations::kAuto, CacheType::kF32, ids, other);
    if (isa == cpu::available_isas().back()) std::printf("%s: distance %.1e\n", std::string(to_string(form)).c_str(), distance);
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, CpuForms,
                         testing::Values(DType::kQ2_K, DType::kQ3_K, DType::kTQ1_0, DType::kTQ2_0, DType::kIQ1_S, DType::kIQ1_M, DType::kIQ2_XXS,
                                         DType::kIQ2_XS, DType::kIQ2_S, DType::kIQ3_XXS, DType::kIQ3_S, DType::kIQ4_NL, DType::kIQ4_XS,
                                         DType::kMXFP4, DType::kNVFP4),
                         [](const auto& form) { return std::string(to_string(form.param)); });

}  // namespace
}  // namespace plumb
