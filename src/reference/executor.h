// The reference executor: interprets a graph stage by stage. Slow, plain, and the same to the bit
// for every chunk size and thread count.
//   const auto executor = make_reference_executor(bound, Precision::kFp32, 2);
#pragma once
#include <memory>

#include "graph/executor.h"
#include "reference/numerics.h"

namespace plumb {

// `network` must outlive the executor. `threads` 0: one per processor.
std::unique_ptr<Executor> make_reference_executor(const BoundGraph& network, Precision precision,
                                                  int threads);

}  // namespace plumb
