// Which of the entries that score alike an index chooses. Products that relu cuts off are zero to the bit, in any engine and any type, so that
// ties are common; where the choice itself was not captured, what follows from it tells by which rule the engine breaks them.
#pragma once
#include <cstdint>
#include <vector>

#include "core/thread_pool.h"
#include "graph/executor.h"
#include "graph/graph.h"
#include "graph/tensor.h"
#include "parity/captured.h"

namespace plumb {

// Chooses again, as torch.topk does on a processor, among the scores that an index yields. `known_length`: tokens that the engine knew; entries
// that it held for them and that no score here stands for are masked, and take part in torch's order. `outputs`: scores and choice.
void choose_as_torch(const Stage& stage, std::int64_t known_length, std::vector<Tensor>& outputs);

// The rule by which what was captured of the first pass follows best; the lowest number where nothing tells, or where passes do not follow each
// other from position 0 on with known ids.
Ties ties_of(const BoundGraph& network, const Captured& captured, ThreadPool& pool);

}  // namespace plumb
