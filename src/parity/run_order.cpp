#include "parity/run_order.h"

namespace plumb {

RunOrder::RunOrder(const BoundGraph& network, const std::vector<std::string>& names)
    : network_(network), before_(network.graph.stages.size()) {
  for (std::size_t i = 0; i < names.size(); ++i)
    place_.try_emplace(names[i], i);
  const auto& stages = network.graph.stages;
  for (std::size_t i = 0; i < stages.size(); ++i) {
    for (const Value input : stages[i].inputs) {
      const auto from = static_cast<std::size_t>(input.stage);
      if (stages[from].layer != stages[i].layer) continue;
      before_[i].insert(input.stage);
      before_[i].insert(before_[from].begin(), before_[from].end());
    }
  }
}

bool RunOrder::holds(const std::map<std::string, int>& known_stages) const {
  for (const auto& [name, stage] : known_stages) {
    if (!allows(name, stage, known_stages)) return false;
  }
  return true;
}

bool RunOrder::allows(const std::string& theirs, int stage,
                      const std::map<std::string, int>& known_stages) const {
  const auto own = place_.find(theirs);
  if (own == place_.end()) return true;
  const int layer = network_.graph.stages[static_cast<std::size_t>(stage)].layer;
  for (const auto& [name, other] : known_stages) {
    const auto place = place_.find(name);
    if (place == place_.end() || name == theirs ||
        network_.graph.stages[static_cast<std::size_t>(other)].layer != layer)
      continue;
    const int first = place->second < own->second ? other : stage;
    const int second = place->second < own->second ? stage : other;
    // What was computed first would have needed what came after it.
    if (before_[static_cast<std::size_t>(first)].contains(second)) return false;
  }
  return true;
}

}  // namespace plumb
