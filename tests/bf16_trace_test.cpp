// hf-bf16 stage by stage: every stage of golden/bf16.trace, recomputed from the inputs that
// transformers itself had, must give transformers' bits. Criteria: issue text of the foundation,
// repeated in docs/parity.md.
#include <cmath>
#include <cstdio>
#include <map>
#include <set>

#include "golden.h"
#include "parity/recompute.h"
#include "parity/trace.h"

namespace plumb {
namespace {

// "layers.3.attn.q" as "layers.*.attn.q": the same stage of all layers is judged together.
std::string kind_of(const std::string& stage) {
  if (stage.rfind("layers.", 0) != 0) return stage;
  return "layers.*" + stage.substr(stage.find('.', 7));
}

struct Agreement {
  std::int64_t elements = 0;
  std::int64_t bit_equal = 0;
  double worst_ulps = 0;     // of the row's largest magnitude
  double squared_error = 0;  // stages in float32
  double squared_norm = 0;
  bool in_bfloat16 = false;
};

double ulp_of(double magnitude) {
  if (magnitude == 0) return std::ldexp(1.0, -133);
  return std::ldexp(1.0, std::ilogb(magnitude) - 7);  // bfloat16 has 8 bits of precision
}

void judge_row(std::span<const double> computed, std::span<const double> captured,
               Agreement& agreement) {
  double largest = 0;
  for (const double value : captured)
    largest = std::max(largest, std::abs(value));
  for (std::size_t i = 0; i < computed.size(); ++i) {
    const double error = computed[i] - captured[i];
    ++agreement.elements;
    agreement.bit_equal += error == 0 ? 1 : 0;
    agreement.worst_ulps = std::max(agreement.worst_ulps, std::abs(error) / ulp_of(largest));
    agreement.squared_error += error * error;
    agreement.squared_norm += captured[i] * captured[i];
  }
}

// The last `keys` columns of an attention's matrix: the trace of a windowed layer leaves out what fell out of the window.
Tensor last_keys(const Tensor& matrix, std::int64_t keys) {
  Shape shape = matrix.shape;
  shape.back() = keys;
  Tensor last(shape);
  const auto all = static_cast<std::size_t>(matrix.shape.back());
  const auto kept = static_cast<std::size_t>(keys);
  for (std::size_t row = 0; row * all < matrix.data.size(); ++row) {
    const auto values = std::span(matrix.data).subspan(row * all, all);
    for (const double dropped : values.first(all - kept))
      EXPECT_TRUE(dropped == 0 || std::isinf(dropped));
    std::ranges::copy(values.last(kept), last.data.begin() + static_cast<std::int64_t>(row * kept));
  }
  return last;
}

void judge(const Tensor& all, bool of_keys, const StoredTensor& stored, Agreement& agreement) {
  const Tensor captured = Trace::read(stored);
  const bool windowed = of_keys && captured.shape.back() < all.shape.back();
  const Tensor computed = windowed ? last_keys(all, captured.shape.back()) : all;
  ASSERT_EQ(computed.shape, captured.shape) << stored.name;
  agreement.in_bfloat16 = stored.dtype == DType::kBF16;
  if (captured.data.empty()) return;
  const auto width = static_cast<std::size_t>(captured.shape.back());
  for (std::size_t first = 0; first < captured.data.size(); first += width) {
    judge_row(std::span(computed.data).subspan(first, width),
              std::span(captured.data).subspan(first, width), agreement);
  }
}

// Chosen experts are equal when their scores are: bfloat16 logits tie, and torch.topk leaves open which of equals comes first.
void judge_choice(const Tensor& scores, const Tensor& ours, const StoredTensor& stored,
                  Agreement& agreement) {
  const Tensor theirs = Trace::read(stored);
  ASSERT_EQ(ours.shape, theirs.shape) << stored.name;
  for (std::int64_t t = 0; t < ours.tokens(); ++t) {
    for (std::size_t i = 0; i < ours.row(t).size(); ++i) {
      const auto score = [&](double id) { return scores.row(t)[static_cast<std::size_t>(id)]; };
      ++agreement.elements;
      agreement.bit_equal += ours.row(t)[i] == theirs.row(t)[i] ? 1 : 0;
      EXPECT_EQ(score(ours.row(t)[i]), score(theirs.row(t)[i]))
          << stored.name << ", token " << t << ", choice " << i;
    }
  }
}

class Bf16Trace : public testing::TestWithParam<std::string> {};

TEST_P(Bf16Trace, EveryStageGivesTransformersBits) {
  const Model model = golden::load(GetParam());
  const auto trace = Trace::open(golden::checkpoints() / GetParam() / "golden/bf16.trace");
  ASSERT_TRUE(trace.ok()) << trace.error().message;
  ThreadPool pool(0);
  const Patch nothing;
  Recompute recompute(model.network, trace.value(), Numerics(Precision::kHfBf16), pool, nothing);
  std::map<std::string, Agreement> agreements;
  std::set<std::string> judged;
  const auto& stages = model.network.graph.stages;
  for (std::size_t step = 0; step < trace.value().steps().size(); ++step) {
    for (int i = 0; i < static_cast<int>(stages.size()); ++i) {
      const Stage& stage = stages[static_cast<std::size_t>(i)];
      for (int o = 0; o < static_cast<int>(stage.outputs.size()); ++o) {
        const std::string& name = stage.outputs[static_cast<std::size_t>(o)].name;
        const StoredTensor* stored = trace.value().find(step, name);
        if (stored == nullptr) continue;
        judged.insert(stored->name);
        Agreement& agreement = agreements[kind_of(name)];
        if (std::holds_alternative<Router>(stage.operation) && o == 1) {
          judge_choice(recompute.computed(step, {i, 0}), recompute.computed(step, {i, 1}), *stored,
                       agreement);
        } else {
          const bool of_keys =
              stage.outputs[static_cast<std::size_t>(o)].shape.back() == kAnyLength;
          judge(recompute.computed(step, {i, o}), of_keys, *stored, agreement);
        }
      }
    }
  }
  for (const StoredTensor& tensor : trace.value().tensors()) {
    EXPECT_TRUE(judged.contains(tensor.name))
        << tensor.name << " is in the trace, but no stage of the graph yields it";
  }
  for (const auto& [stage, a] : agreements) {
    const double share = static_cast<double>(a.bit_equal) / static_cast<double>(a.elements);
    const double distance = std::sqrt(a.squared_error / std::max(a.squared_norm, 1e-300));
    std::printf("%-12s %-28s %8lld elements  bit-equal %8.4f %%  worst %5.2f ulp  distance %.1e\n",
                GetParam().c_str(), stage.c_str(), static_cast<long long>(a.elements), 100 * share,
                a.worst_ulps, distance);
    if (a.in_bfloat16) {
      EXPECT_GE(share, 0.999) << stage;
      EXPECT_LE(a.worst_ulps, 2) << stage;
    } else {
      EXPECT_LE(distance, 1e-5) << stage;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, Bf16Trace,
                         testing::ValuesIn(golden::names("golden/bf16.trace/manifest.json")),
                         golden::test_name);

}  // namespace
}  // namespace plumb
