// Look-ups in a recorded graph.
#include "graph/graph.h"

#include <algorithm>

namespace plumb {

const Output& Graph::output(Value value) const {
  return stages[static_cast<std::size_t>(value.stage)]
      .outputs[static_cast<std::size_t>(value.output)];
}

int Graph::find_stage(std::string_view output_name) const {
  for (std::size_t i = 0; i < stages.size(); ++i) {
    for (const Output& output : stages[i].outputs) {
      if (output.name == output_name) return static_cast<int>(i);
    }
  }
  return -1;
}

int Graph::layers() const {
  int count = 0;
  for (const Stage& stage : stages)
    count = std::max(count, stage.layer + 1);
  return count;
}

}  // namespace plumb
