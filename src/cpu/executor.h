// The fast executor: the graph in float32 with weights in their stored form, the same to the bit for every chunk, batch and
// thread count on one instruction set.
//   PLUMB_TRY(const Isa isa, isa_from_name("auto"));
//   const auto executor = make_cpu_executor(bound, {.isa = isa, .activations = Activations::kExact, .threads = 2});
#pragma once
#include <memory>

#include "cpu/activations.h"
#include "cpu/cache_type.h"
#include "cpu/isa.h"
#include "graph/executor.h"

namespace plumb::cpu {

struct CpuOptions {
  Isa isa;
  Activations activations;
  int threads;  // 0: one per processor
  CacheType cache = CacheType::kF32;  // of keys and values
};

// `network` must outlive the executor. What it has and this executor does not compute is an error of forward(), which names
// the stage. Observers see every stage's outputs; of a batch of several sequences not the scores and probabilities of
// attention, the scores of an index, and the state of a delta rule.
std::unique_ptr<Executor> make_cpu_executor(const BoundGraph& network, const CpuOptions& options);

}  // namespace plumb::cpu
