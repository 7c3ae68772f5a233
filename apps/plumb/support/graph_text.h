// A model's graph and tensors as indented lines.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "graph/executor.h"
#include "io/weight_map.h"

namespace plumb {

// Layers that are alike are shown once, unless `all`.
std::string stages_text(const Graph& graph, bool all);

// One line for each tensor, or for those whose names differ in nothing but numbers, unless `all`.
// How it runs stands behind it where the executor holds it in another way than the file.
std::string tensors_text(const BoundGraph& network, const Executor& executor, bool all);

// As tensors_text, with a title; "" where nothing was skipped.
std::string skipped_text(const std::vector<WeightMap::Skipped>& tensors, bool all);

std::string byte_text(std::uint64_t count);  // "512 B", "6.04 MB"

}  // namespace plumb
