// What is decided once for a network: which parameters are matrices and which are whole vectors, which projections are
// computed together, which rotations share tables, and when a value is done with.
#pragma once
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cpu/context.h"
#include "graph/executor.h"

namespace plumb::cpu {

struct Plan {
  Pages store;                                      // the panels of all matrices; a page is there once it is written
  std::vector<std::unique_ptr<Matrix>> matrices;    // by parameter; null for vectors and tables
  std::vector<StageWeights> weights;                // by stage
  std::vector<std::size_t> last_use;                // by stage: the last stage that reads it
  std::vector<std::vector<std::size_t>> together;   // by stage: the linear stages that it computes, itself first
  std::vector<std::pair<const Rope*, const Rope*>> same_rope;
  // By stage: the matrix that attention's values come from; null elsewhere, and where none is found. What it is multiplied with
  // decides whether attention rounds too.
  std::vector<const Matrix*> values_from;
  // By stage and thread: of the panels of the products that follow, the first that the thread multiplies with; none where that is decided on
  // the way (experts).
  std::vector<std::vector<std::span<const std::uint8_t>>> ahead;
  std::optional<std::string> refusal;               // names the first stage that cannot run
};

Plan make_plan(const BoundGraph& network, Activations activations, const Kernels& kernels, const ThreadPool& pool);

}  // namespace plumb::cpu
