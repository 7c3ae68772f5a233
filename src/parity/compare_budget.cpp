// Measured on the golden traces of 14 checkpoints (bfloat16 and float32 of transformers, float32 of the reference executor): a
// stage's
// error is at most twice the largest before it, and 1.25 units more; five times where heads are normalised one by one, for that
// weighs
// small heads, whose relative error is large, like others. The budget leaves room for half as much again and for other engines'
// order of
// summation.
#include "parity/compare_budget.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "parity/profiles.h"
#include "parity/run_type.h"
#include "parity/trace_side.h"

namespace plumb {
namespace {

constexpr double kOwn = 4;           // units that one stage may add
constexpr double kUnseenLayer = 12;  // units that a layer may add of which little was captured
constexpr double kMostUnseen = 100;
constexpr double kMagnify = 3;  // of what earlier stages carry
constexpr double kMagnifyHeads = 8;
constexpr double kMost = 0.5;  // relative L2 that no right run has

struct Kind {
  DType type;
  std::string_view name;
  double unit;
};

constexpr Kind kKinds[] = {{DType::kF64, "float64", 0x1p-50},
                           {DType::kF32, "float32", 0x1p-24},
                           {DType::kF16, "float16", 0x1p-12},
                           {DType::kBF16, "bfloat16", 0x1p-9}};

const Kind& kind_of(const Trace& trace) {
  return *std::ranges::find(kKinds, run_type(trace), &Kind::type);
}

// llama.cpp and our cpu executor hold float32 and multiply in half or in eight bits.
bool rounds_operands(const Trace& trace) {
  const TraceManifest& manifest = trace.manifest();
  const auto narrow = [&](Precision precision) {
    return manifest.precision == to_string(precision) && Numerics(precision).rounds_operands();
  };
  return is_llama_cpp(manifest.engine_name) || std::ranges::any_of(kPrecisions, narrow);
}

}  // namespace

double run_unit(const Trace& trace) {
  constexpr double kFallEitherWay = 0x1p-12;  // operands near a step
  const double unit = kind_of(trace).unit;
  return rounds_operands(trace) ? std::max(unit, kFallEitherWay) : unit;
}

double unit_between(const Trace& a, const Trace& b) {
  constexpr double kEightBits = 0x1p-9;  // what a product loses to operands of eight bits: 3e-3 to 4e-3
  const double unit = std::max(run_unit(a), run_unit(b));
  return rounds_operands(a) == rounds_operands(b) ? unit : std::max(unit, kEightBits);
}

std::string run_dtype(const Trace& trace) {
  return std::string(kind_of(trace).name);
}

std::string run_words(const Trace& trace) {
  const auto& manifest = trace.manifest();
  const std::string engine =
      manifest.engine_name.empty()
          ? "engine not named"
          : manifest.engine_name +
                (manifest.engine_version.empty() ? "" : " " + manifest.engine_version);
  const std::size_t stages = TraceSide(trace).stages().size();
  const std::size_t passes = trace.steps().size();
  return fmt::format("{}, {}, {} stage{}, {} pass{}", engine, run_dtype(trace), stages,
                     stages == 1 ? "" : "s", passes, passes == 1 ? "" : "es");
}

double NoiseModel::budget(std::string_view role, int unseen) const {
  constexpr std::string_view kByHead[] = {"linear.norm", "linear.q", "linear.k", "attn.q_norm",
                                          "attn.k_norm"};
  const bool by_head = std::find(std::begin(kByHead), std::end(kByHead), role) != std::end(kByHead);
  const double own = std::min(kOwn + kUnseenLayer * unseen, kMostUnseen) * unit_;
  return std::min(own + (by_head ? kMagnifyHeads : kMagnify) * carried_, kMost);
}

void NoiseModel::carry(double relative_l2) {
  carried_ = std::max(carried_, relative_l2);
}

}  // namespace plumb
