// The gated delta rule against its formula, its two forms against each other, and both over every
// split of the tokens.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

#include "reference/stage.h"

namespace plumb {
namespace {

constexpr DeltaRule kRule = {.form = DeltaForm::kRecurrent,
                             .chunk = 64,
                             .groups = HeadGroups::kRepeat,
                             .decay = DecayPlace::kBeforeWrite,
                             .read = ReadPlace::kAfterWrite,
                             .strength = WriteStrength::kOnValue,
                             .held = HeldRead::kAfterDecay,
                             .state_precision = ScalePrecision::kFloat32};

DeltaRule chunked(std::int64_t chunk) {
  DeltaRule rule = kRule;
  rule.form = DeltaForm::kChunked;
  rule.chunk = chunk;
  return rule;
}

// q, k, v, g, beta of T tokens, as the stages before the rule yield them, and a state from before.
struct Case {
  std::vector<Tensor> inputs;
  RecurrentMemory before;
};

Case random_case(std::int64_t tokens, std::int64_t key_heads, std::int64_t ratio, unsigned seed) {
  constexpr std::int64_t kKeyDim = 6;
  constexpr std::int64_t kValueDim = 5;
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  const auto filled = [&](const Shape& shape) {
    Tensor x(shape);
    for (double& value : x.data)
      value = static_cast<float>(normal(random));
    return x;
  };
  const auto unit = [](Tensor x, double scale) {
    const auto dim = static_cast<std::size_t>(x.shape.back());
    for (std::size_t first = 0; first < x.data.size(); first += dim) {
      double sum = 1e-6;
      for (std::size_t i = first; i < first + dim; ++i)
        sum += x.data[i] * x.data[i];
      for (std::size_t i = first; i < first + dim; ++i)
        x.data[i] = static_cast<float>(scale * x.data[i] / std::sqrt(sum));
    }
    return x;
  };
  const std::int64_t heads = key_heads * ratio;
  Case c;
  c.inputs.push_back(unit(filled({tokens, key_heads, kKeyDim}), 1 / std::sqrt(6.0)));
  c.inputs.push_back(unit(filled({tokens, key_heads, kKeyDim}), 1));
  c.inputs.push_back(filled({tokens, heads, kValueDim}));
  c.inputs.push_back(filled({tokens, heads}));
  c.inputs.push_back(filled({tokens, heads}));
  for (double& g : c.inputs[3].data)
    g = static_cast<float>(-0.2 * g * g);
  for (double& beta : c.inputs[4].data)
    beta = static_cast<float>(1 / (1 + std::exp(-beta)));
  c.before.matrices = filled({heads, kKeyDim, kValueDim});
  return c;
}

Tensor rows(const Tensor& x, std::int64_t first, std::int64_t count) {
  Shape shape = x.shape;
  shape[0] = count;
  Tensor part(shape);
  std::copy_n(x.data.begin() + first * x.width(), count * x.width(), part.data.begin());
  return part;
}

struct Outcome {
  Tensor context;
  Tensor state;
};

// The tokens in pieces of the given sizes, the last of them repeated as needed.
Outcome run_pieces(const DeltaRule& rule, const Case& c, const std::vector<std::int64_t>& sizes,
                   Precision precision = Precision::kFp32) {
  Stage stage{.name = "linear",
              .layer = 0,
              .operation = rule,
              .inputs = {},
              .params = {},
              .states = {},
              .outputs = {}};
  StateValue state = c.before;
  const std::int64_t tokens = c.inputs[0].tokens();
  Outcome outcome;
  outcome.context = Tensor(c.inputs[2].shape);
  std::size_t piece = 0;
  for (std::int64_t first = 0; first < tokens;) {
    const std::int64_t count = std::min(sizes[std::min(piece++, sizes.size() - 1)], tokens - first);
    std::vector<Tensor> inputs;
    for (const Tensor& x : c.inputs)
      inputs.push_back(rows(x, first, count));
    StageOperands operands;
    for (const Tensor& x : inputs)
      operands.inputs.push_back(&x);
    operands.states = {&state};
    const StageContext context{.numerics = Numerics(precision),
                               .pool = nullptr,
                               .known_length = tokens,
                               .all_outputs = true};
    const std::vector<Tensor> outputs = run_stage(stage, operands, context);
    std::copy(outputs[1].data.begin(), outputs[1].data.end(),
              outcome.context.data.begin() + first * outcome.context.width());
    outcome.state = outputs[0];
    first += count;
  }
  return outcome;
}

double distance(const Tensor& a, const Tensor& b) {
  EXPECT_EQ(a.shape, b.shape);
  double error = 0;
  double norm = 0;
  for (std::size_t i = 0; i < b.data.size(); ++i) {
    error += (a.data[i] - b.data[i]) * (a.data[i] - b.data[i]);
    norm += b.data[i] * b.data[i];
  }
  return std::sqrt(error / norm);
}

// The rule as an explicit product of matrices, S_t = exp(g) (I - beta k k^T) S + beta k v^T: the
// form in which DeltaNet is usually written, with k k^T applied to the decayed state.
Outcome by_formula(const Case& c) {
  Outcome outcome{.context = Tensor(c.inputs[2].shape), .state = c.before.matrices};
  const auto heads = static_cast<std::size_t>(c.inputs[2].shape[1]);
  const std::size_t ratio = heads / static_cast<std::size_t>(c.inputs[0].shape[1]);
  const auto n = static_cast<std::size_t>(c.inputs[0].shape[2]);
  const auto m = static_cast<std::size_t>(c.inputs[2].shape[2]);
  for (std::int64_t t = 0; t < c.inputs[0].tokens(); ++t) {
    for (std::size_t h = 0; h < heads; ++h) {
      const auto q = c.inputs[0].row(t).subspan(h / ratio * n, n);
      const auto k = c.inputs[1].row(t).subspan(h / ratio * n, n);
      const auto v = c.inputs[2].row(t).subspan(h * m, m);
      const double keep = std::exp(c.inputs[3].row(t)[h]);
      const double beta = c.inputs[4].row(t)[h];
      const auto s = std::span(outcome.state.data).subspan(h * n * m, n * m);
      const std::vector<double> old(s.begin(), s.end());
      for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t j = 0; j < m; ++j) {
          double sum = beta * k[i] * v[j];
          for (std::size_t l = 0; l < n; ++l)
            sum += keep * ((i == l ? 1 : 0) - beta * k[i] * k[l]) * old[l * m + j];
          s[i * m + j] = sum;
        }
      }
      for (std::size_t j = 0; j < m; ++j) {
        for (std::size_t i = 0; i < n; ++i)
          outcome.context.row(t)[h * m + j] += s[i * m + j] * q[i];
      }
    }
  }
  return outcome;
}

TEST(DeltaRule, IsItsFormula) {
  const Case c = random_case(9, 2, 3, 1);
  const Outcome expected = by_formula(c);
  const Outcome exact = run_pieces(kRule, c, {9}, Precision::kFp64);
  EXPECT_LT(distance(exact.context, expected.context), 1e-14);
  EXPECT_LT(distance(exact.state, expected.state), 1e-14);
  const Outcome single = run_pieces(kRule, c, {9});
  EXPECT_LT(distance(single.context, expected.context), 1e-6);
  EXPECT_LT(distance(single.state, expected.state), 1e-6);
}

TEST(DeltaRule, FormsAgree) {
  for (const std::int64_t tokens : {1, 2, 3, 37, 64, 65, 200}) {
    for (const std::int64_t ratio : {1, 2, 3}) {
      const Case c = random_case(tokens, 2, ratio, static_cast<unsigned>(tokens * 10 + ratio));
      const Outcome recurrent = run_pieces(kRule, c, {tokens});
      for (const std::int64_t chunk : {1, 5, 64}) {
        const Outcome other = run_pieces(chunked(chunk), c, {tokens});
        EXPECT_LT(distance(other.context, recurrent.context), 1e-5) << tokens << " by " << chunk;
        EXPECT_LT(distance(other.state, recurrent.state), 1e-5) << tokens << " by " << chunk;
      }
      const Outcome exact = run_pieces(kRule, c, {tokens}, Precision::kFp64);
      const Outcome exact_chunked = run_pieces(chunked(64), c, {tokens}, Precision::kFp64);
      EXPECT_LT(distance(exact_chunked.context, exact.context), 1e-13) << tokens;
    }
  }
}

TEST(DeltaRule, SplitsAnywhereGiveTheSame) {
  const Case c = random_case(70, 2, 2, 7);
  const Outcome whole = run_pieces(kRule, c, {70});
  for (std::int64_t at = 1; at < 70; ++at) {
    const Outcome split = run_pieces(kRule, c, {at, 70});
    EXPECT_EQ(split.context.data, whole.context.data) << at;
    EXPECT_EQ(split.state.data, whole.state.data) << at;
    // The chunked form hands over to the recurrent one and the other way round.
    const Outcome other = run_pieces(chunked(64), c, {at, 70});
    EXPECT_LT(distance(other.context, whole.context), 1e-5) << at;
    EXPECT_LT(distance(other.state, whole.state), 1e-5) << at;
  }
  for (const std::int64_t size : {1, 3, 7}) {
    const Outcome pieces = run_pieces(kRule, c, {size});
    EXPECT_EQ(pieces.context.data, whole.context.data) << size;
  }
}

// Strong decays: exp(G_i - G_j) overflows where j > i, so the forms agree only where such pairs are
// left out before the exponential.
TEST(DeltaRule, ChunksSurviveStrongDecays) {
  Case c = random_case(64, 1, 2, 3);
  for (double& g : c.inputs[3].data)
    g *= 100;
  const Outcome recurrent = run_pieces(kRule, c, {64});
  const Outcome other = run_pieces(chunked(64), c, {64});
  EXPECT_LT(distance(other.context, recurrent.context), 1e-5);
}

// P9 and P14 to P16 on the stage alone: each wrong rule is far away after two tokens.
TEST(DeltaRule, WrongRulesAreFarAway) {
  const Case c = random_case(2, 2, 2, 11);
  const Outcome right = run_pieces(kRule, c, {2});
  const auto expect_far = [&](const char* what, double least, auto change) {
    DeltaRule rule = kRule;
    change(rule);
    EXPECT_GT(distance(run_pieces(rule, c, {2}).context, right.context), least) << what;
  };
  expect_far("key heads tiled", 0.1, [](DeltaRule& r) { r.groups = HeadGroups::kTile; });
  expect_far("decay after", 0.01, [](DeltaRule& r) { r.decay = DecayPlace::kAfterWrite; });
  expect_far("read before", 0.1, [](DeltaRule& r) { r.read = ReadPlace::kBeforeWrite; });
  expect_far("beta twice", 0.05, [](DeltaRule& r) { r.strength = WriteStrength::kOnValueAndKey; });
  expect_far("bfloat16 state", 1e-4,
             [](DeltaRule& r) { r.state_precision = ScalePrecision::kBfloat16; });
}

// P15: a state handed over with its two axes exchanged.
TEST(DeltaRule, ATransposedStateIsFarAway) {
  Case c = random_case(5, 1, 1, 17);
  c.inputs[2] = rows(c.inputs[0], 0, 5);  // as many value channels as key channels
  c.before.matrices = Tensor({1, 6, 6});
  std::iota(c.before.matrices.data.begin(), c.before.matrices.data.end(), -10);
  Case turned = c;
  for (std::size_t i = 0; i < 6; ++i) {
    for (std::size_t j = 0; j < 6; ++j)
      turned.before.matrices.data[i * 6 + j] = c.before.matrices.data[j * 6 + i];
  }
  EXPECT_GT(distance(run_pieces(kRule, turned, {5}).context, run_pieces(kRule, c, {5}).context),
            0.1);
}

}  // namespace
}  // namespace plumb
