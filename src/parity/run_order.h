// The order in which an engine says that it computed its values, held against the order that the graph's inputs force.
#pragma once
#include <map>
#include <set>
#include <string>
#include <vector>

#include "graph/executor.h"

namespace plumb {

class RunOrder {
 public:
  // `names` as the trace's manifest lists them: in the order of execution. Empty: nothing is known, anything may be.
  RunOrder(const BoundGraph& network, const std::vector<std::string>& names);

  bool tells() const { return !place_.empty(); }

  // Whether the order holds for all that is known; where it does not, it was no order of execution.
  bool holds(const std::map<std::string, int>& known_stages) const;

  // Whether `theirs` may be the output of `stage`, given which of the engine's names is the output of which other stage.
  bool allows(const std::string& theirs, int stage,
              const std::map<std::string, int>& known_stages) const;

 private:
  const BoundGraph& network_;
  std::map<std::string, std::size_t> place_;
  std::vector<std::set<int>> before_;  // of each stage those of its layer that its value depends on
};

}  // namespace plumb
