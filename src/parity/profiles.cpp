// Names are of engines that write traces or whose output the readers take; an unknown one is decided by its values.
#include "parity/profiles.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <variant>

#include "parity/recompute.h"
#include "parity/residual.h"
#include "parity/run_type.h"
#include "reference/ggml.h"
#include "reference/int16.h"

namespace plumb {
bool alone(const BoundGraph& network, const std::vector<int>& span) {
  return std::ranges::count_if(span, [&](int index) {
           const Operation& operation = network.graph.stages[static_cast<std::size_t>(index)].operation;
           return !std::holds_alternative<Tokens>(operation) && !std::holds_alternative<Positions>(operation);
         }) == 1;
}

namespace {

bool names(const std::string& engine, std::initializer_list<std::string_view> words) {
  std::string lower = engine;
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return std::ranges::any_of(words, [&](std::string_view word) { return lower.find(word) != std::string::npos; });
}

// Where the profiles differ, and a single stage tells them apart.
bool tells(const Stage& stage) {
  return std::holds_alternative<Linear>(stage.operation) || std::holds_alternative<Logits>(stage.operation) ||
         std::holds_alternative<Attend>(stage.operation) || std::holds_alternative<Experts>(stage.operation);
}

}  // namespace

bool is_llama_cpp(const std::string& engine) {
  return names(engine, {"llama.cpp", "llama_cpp", "ggml", "ollama"});
}

SuspectType suspect_type(DType run) {
  return run == DType::kBF16 ? SuspectType::kBfloat16 : run == DType::kF16 ? SuspectType::kFloat16 : SuspectType::kFloat32;
}

DType dtype_of(SuspectType type) {
  return type == SuspectType::kBfloat16 ? DType::kBF16 : type == SuspectType::kFloat16 ? DType::kF16 : DType::kF32;
}

namespace {

std::vector<Precision> profiles_of(SuspectType type, const std::string& engine) {
  if (type == SuspectType::kFloat32) return {Precision::kFp32};
  const bool half = type == SuspectType::kFloat16;
  std::vector<Precision> profiles = {half ? Precision::kHfFp16 : Precision::kHfBf16,
                                     half ? Precision::kMlxFp16 : Precision::kMlxBf16};
  if (names(engine, {"mlx"})) std::ranges::reverse(profiles);
  return profiles;
}

// Whether a matrix is of such a type.
bool has(const BoundGraph& network, bool (*is)(DType)) {
  return std::ranges::any_of(network.weights, [is](const WeightPtr& weight) {
    const auto type = weight == nullptr || weight->shape().size() < 2 ? std::nullopt : weight->element_type();
    return type && is(*type);
  });
}

struct Formula {
  std::optional<Precision> formula;  // nothing where no stage that was captured with its operands tells
  bool by_attention = false;
};

Formula formula_of(const BoundGraph& network, const Captured& captured, ThreadPool& pool) {
  constexpr std::array kFormulas = {Precision::kFp64, Precision::kGgmlFlash, Precision::kGgml, Precision::kCpuInt16, Precision::kCpuInt8};
  constexpr std::size_t kEnough = 6;  // of either kind
  constexpr double kSums = 64 * 0x1p-24;  // what float32 and the order of summation cost tells nothing about operands
  const Patch nothing;
  std::vector<Recompute> runs;
  runs.reserve(kFormulas.size());
  for (const Precision formula : kFormulas)
    runs.emplace_back(network, captured, Numerics(formula), pool, nothing);
  std::array<std::size_t, kFormulas.size()> wins{};
  std::array<std::size_t, 2> asked{};  // of products with a weight, of attention
  const auto& stages = network.graph.stages;
  for (int i = 0; i < static_cast<int>(stages.size()); ++i) {
    const Stage& stage = stages[static_cast<std::size_t>(i)];
    const Value value{i, static_cast<int>(stage.outputs.size()) - 1};
    std::size_t& count = asked[std::holds_alternative<Attend>(stage.operation) ? 1 : 0];
    const auto held = count < kEnough && tells(stage) ? runs[0].captured(0, value) : nullptr;
    if (!held || !alone(network, runs[0].span_of(0, value))) continue;
    std::array<double, kFormulas.size()> apart;
    apart.fill(kSums);
    for (std::size_t f = 0; f < kFormulas.size(); ++f) {
      const Tensor& computed = runs[f].computed(0, value);
      if (computed.shape == held->values.shape) apart[f] = std::max(residual(held->values, computed).relative_l2, kSums);
    }
    const double least = *std::ranges::min_element(apart);
    if (*std::ranges::max_element(apart) < 3 * least) continue;  // all the same to this stage
    ++count;
    for (std::size_t f = 0; f < kFormulas.size(); ++f)
      wins[f] += apart[f] <= 3 * least ? 1 : 0;
  }
  if (asked[0] + asked[1] == 0) return {};
  return {kFormulas[static_cast<std::size_t>(std::ranges::max_element(wins) - wins.begin())], asked[1] > 0};
}

}  // namespace

std::vector<Precision> likely_profiles(const BoundGraph& network, SuspectType type, const std::string& engine) {
  if (type == SuspectType::kFloat32) {
    if (is_llama_cpp(engine)) return {Precision::kGgmlFlash, Precision::kGgml};
    if (names(engine, {"plumb"}) && has(network, reference::is_cpu_int8)) return {Precision::kFp32, Precision::kCpuInt16, Precision::kCpuInt8};
    const bool codes = names(engine, {"avx2", "avx512", "amx"}) && !names(engine, {"exact activations"});
    if (names(engine, {"plumb"}) && codes && has(network, reference::is_cpu_int16)) {
      if (names(engine, {"amx"})) return {Precision::kFp32, Precision::kCpuInt16};  // halves are codes, bfloat16 is not
      return {Precision::kCpuInt16};
    }
    return {Precision::kFp32};
  }
  auto profiles = profiles_of(type, engine);
  if (names(engine, {"mlx", "transformers"})) profiles.resize(1);
  return profiles;
}

Arithmetic arithmetic_of(const BoundGraph& network, const Captured& captured, SuspectType type,
                         const std::string& engine, ThreadPool& pool) {
  if (type != SuspectType::kFloat32 || captured.steps().empty()) return {type, Precision::kFp64, profiles_of(type, engine), names(engine, {"mlx", "transformers"})};
  const auto [formula, by_attention] = formula_of(network, captured, pool);
  const bool ggml = formula ? Numerics(*formula).ggml() : is_llama_cpp(engine);
  if (ggml && !by_attention) return {type, Precision::kGgmlFlash, {Precision::kGgmlFlash, Precision::kGgml}};
  if (!formula || *formula == Precision::kFp64)
    return {type, Precision::kFp64, formula ? profiles_of(type, engine) : likely_profiles(network, type, engine)};
  if (Numerics(*formula).engine() == Engine::kCpu && !by_attention)
    return {type, Precision::kCpuInt16, {Precision::kCpuInt16, Precision::kCpuInt8}};
  return {type, *formula, {*formula}};
}

Arithmetic arithmetic_of(const BoundGraph& network, const Captured& captured, const Trace& trace, ThreadPool& pool) {
  Arithmetic arithmetic = arithmetic_of(network, captured, suspect_type(run_type(trace)), trace.manifest().engine_words(), pool);
  arithmetic.narrowed = narrowed(trace);
  return arithmetic;
}

}  // namespace plumb
