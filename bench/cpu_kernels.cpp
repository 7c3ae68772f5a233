// The cpu executor's kernels on one thread, in operations and bytes per second of processor time: products of panels (32 rows) that stay
// in the second-level cache, or of which each is read from memory; and attention. Run with --benchmark_filter=BEST for the best
// instruction set only.
#include <benchmark/benchmark.h>

#include <cstring>
#include <vector>

#include "cpu/block_store.h"
#include "cpu/cache_type.h"
#include "cpu/isa.h"
#include "cpu/kernels/kernels.h"
#include "cpu/memory.h"

namespace {

using plumb::cpu::CacheType;
using plumb::cpu::Int8Rows;
using plumb::cpu::Isa;
using plumb::cpu::Kernels;
using plumb::cpu::Panel;
using plumb::cpu::PanelForm;

constexpr std::int64_t kColumns = 2048;

enum class Path : std::uint8_t { kFloat, kInt8, kInt16, kBf16 };

void products(benchmark::State& state, Isa isa, PanelForm form, Path path) {
  const Kernels& kernels = plumb::cpu::kernels_for(isa);
  const std::int64_t tokens = state.range(0);
  // Zeros: what matters is the work, and no value here makes a denormal or a NaN.
  const auto panels = static_cast<std::size_t>(state.range(1));
  plumb::cpu::Pages data(panels * plumb::cpu::panel_bytes(form, kColumns) + 4096);
  std::memset(data.data(), 0, data.size());
  std::vector<float> x(static_cast<std::size_t>(tokens * kColumns), 1.0F);
  std::vector<float> out(static_cast<std::size_t>(tokens * plumb::cpu::kPanelRows));
  std::vector<std::int8_t> codes(x.size(), 1);
  constexpr std::int64_t kWideStride = kColumns + plumb::cpu::kInt16Block;
  std::vector<std::uint16_t> shorts(static_cast<std::size_t>(tokens * kWideStride), 0x3f80);
  std::vector<float> scales(shorts.size());
  std::vector<std::int32_t> sums(x.size());
  const Int8Rows rows = {.codes = codes.data(), .scales = scales.data(), .sums = sums.data(), .stride = kColumns};
  const plumb::cpu::Int16Rows wide = {.codes = reinterpret_cast<std::int16_t*>(shorts.data()), .scales = scales.data(), .stride = kWideStride};
  std::size_t next = 0;
  for (auto _ : state) {
    const Panel one = {.form = form, .data = data.data() + next++ % panels * plumb::cpu::panel_bytes(form, kColumns), .columns = kColumns};
    if (path == Path::kFloat) kernels.multiply_float(one, x.data(), kColumns, tokens, out.data());
    if (path == Path::kInt8) kernels.multiply_int8(one, rows, tokens, {.to = out.data()});
    if (path == Path::kInt16) kernels.multiply_int16(one, wide, tokens, {.to = out.data()});
    if (path == Path::kBf16) kernels.multiply_bf16(one, shorts.data(), kColumns, tokens, out.data());
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  const double operations = 2.0 * static_cast<double>(kColumns * plumb::cpu::kPanelRows * tokens);
  state.counters["ops"] = benchmark::Counter(operations, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["bytes"] =
      benchmark::Counter(static_cast<double>(plumb::cpu::panel_bytes(form, kColumns)), benchmark::Counter::kIsIterationInvariantRate);
}

// So many heads one after the other, of each its own blocks: with many of them as a decoding step reads a long context.
void attention(benchmark::State& state, Isa isa, CacheType type) {
  const Kernels& kernels = plumb::cpu::kernels_for(isa);
  constexpr std::int64_t kDim = 128;
  const std::int64_t keys = state.range(0);
  const std::int64_t vectors = state.range(1);
  const auto heads = static_cast<std::size_t>(state.range(2));
  const auto blocks = static_cast<std::size_t>(keys / plumb::cpu::kKeyBlock);
  const auto block_bytes = static_cast<std::size_t>(plumb::cpu::cache_block_bytes(type, kDim));
  const plumb::cpu::BlockStore store;
  std::vector<std::shared_ptr<std::uint8_t>> cache;  // by block, of all heads: keys, values
  std::vector<const std::uint8_t*> key_blocks;       // by head and block
  std::vector<const std::uint8_t*> value_blocks;
  for (std::size_t b = 0; b < blocks; ++b) {
    cache.push_back(store.take(2 * heads * block_bytes));
    std::memset(cache.back().get(), 0, 2 * heads * block_bytes);  // mapped
  }
  for (std::size_t h = 0; h < heads; ++h) {
    for (std::size_t b = 0; b < blocks; ++b) {
      key_blocks.push_back(cache[b].get() + h * block_bytes);
      value_blocks.push_back(cache[b].get() + (heads + h) * block_bytes);
    }
  }
  std::vector<float> q(static_cast<std::size_t>(vectors * kDim), 0.25F);
  std::vector<float> out(q.size());
  std::vector<float> scratch(static_cast<std::size_t>(plumb::cpu::attend_scratch(vectors, kDim, kDim)));
  std::vector<const float*> queries;
  std::vector<float*> outputs;
  for (std::int64_t v = 0; v < vectors; ++v) {
    queries.push_back(q.data() + v * kDim);
    outputs.push_back(out.data() + v * kDim);
  }
  const std::vector<std::int64_t> first(static_cast<std::size_t>(vectors), 0);
  const std::vector<std::int64_t> end(static_cast<std::size_t>(vectors), keys);
  const auto attend = type == CacheType::kInt16 ? kernels.attend_int16 : kernels.attend;
  std::size_t next = 0;
  for (auto _ : state) {
    const std::size_t head = next++ % heads;
    attend({.type = type, .queries = queries.data(), .outputs = outputs.data(), .first = first.data(), .end = end.data(),
                    .keys = key_blocks.data() + head * blocks, .values = value_blocks.data() + head * blocks, .sinks = nullptr,
                    .vectors = vectors, .key_dim = kDim, .value_dim = kDim, .scale = 0.1F, .soft_cap = 0, .scratch = scratch.data(),
                    .scores = nullptr, .probabilities = nullptr});
    benchmark::ClobberMemory();
  }
  state.counters["ops"] = benchmark::Counter(4.0 * static_cast<double>(keys * kDim * vectors),
                                             benchmark::Counter::kIsIterationInvariantRate);
  state.counters["bytes"] =
      benchmark::Counter(static_cast<double>(2 * blocks * block_bytes), benchmark::Counter::kIsIterationInvariantRate);
}

struct Registered {
  const char* name;
  PanelForm form;
  Path path;
};

const Registered kProducts[] = {
    {"F32", PanelForm::kF32, Path::kFloat},         {"BF16", PanelForm::kBF16, Path::kFloat},
    {"BF16_short", PanelForm::kBF16, Path::kBf16},  {"F16", PanelForm::kF16, Path::kFloat},
    {"BF16_int16", PanelForm::kInt16OfBF16, Path::kInt16},
    {"Q8_0_short", PanelForm::kQ8_0, Path::kInt8},  {"Q4_0_short", PanelForm::kQ4_0, Path::kInt8},
    {"Q4_K_short", PanelForm::kQ4_K, Path::kInt8},  {"Q5_K_short", PanelForm::kQ5_K, Path::kInt8},
    {"Q4_1_short", PanelForm::kQ4_1, Path::kInt8},  {"Q5_0_short", PanelForm::kQ5_0, Path::kInt8},
    {"Q5_1_short", PanelForm::kQ5_1, Path::kInt8},  {"Q6_K_short", PanelForm::kQ6_K, Path::kInt8},
    {"MXFP4_short", PanelForm::kMXFP4, Path::kInt8},   {"NVFP4_short", PanelForm::kNVFP4, Path::kInt8},
    {"IQ4_NL_short", PanelForm::kIQ4_NL, Path::kInt8}, {"IQ4_XS_short", PanelForm::kIQ4_XS, Path::kInt8},
    {"Q2_K_short", PanelForm::kQ2_K, Path::kInt8},     {"Q3_K_short", PanelForm::kQ3_K, Path::kInt8},
    {"TQ2_0_short", PanelForm::kTQ2_0, Path::kInt8},   {"FP8", PanelForm::kFP8, Path::kFloat},
    {"Q4_0", PanelForm::kQ4_0, Path::kFloat},
};

}  // namespace

int main(int argc, char** argv) {
  const auto isas = plumb::cpu::available_isas();
  for (const Isa isa : isas) {
    const std::string prefix = (isa == isas.back() ? "BEST/" : "") + std::string(to_string(isa)) + "/";
    for (const Registered& product : kProducts) {
      if (product.path == Path::kInt16 && plumb::cpu::kernels_for(isa).multiply_int16 == nullptr) continue;
      if (product.path == Path::kBf16 && plumb::cpu::kernels_for(isa).multiply_bf16 == nullptr) continue;
      benchmark::RegisterBenchmark((prefix + product.name).c_str(),
                                   [isa, product](benchmark::State& state) { products(state, isa, product.form, product.path); })
          ->Args({1, 1})->Args({8, 1})->Args({256, 1})->Args({1, 4096});
    }
    for (const CacheType type : {CacheType::kF32, CacheType::kF16, CacheType::kBF16, CacheType::kQ8_0, CacheType::kInt16}) {
      if (type == CacheType::kInt16 && plumb::cpu::kernels_for(isa).attend_int16 == nullptr) continue;
      benchmark::RegisterBenchmark((prefix + "attention_" + std::string(to_string(type))).c_str(),
                                   [isa, type](benchmark::State& state) { attention(state, isa, type); })
          ->Args({1024, 2, 1})->Args({1024, 32, 1})->Args({1024, 128, 1})->Args({2048, 2, 224})->Args({2048, 8, 224})->Args({2048, 16, 224});
    }
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
