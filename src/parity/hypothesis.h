// Hypotheses: what an engine might do otherwise at a stage. Most come from the conventions themselves: every field of every
// operation (graph/fields.h) is tried with its other values, and numbers are solved for; rows.cpp says which row of
// docs/causes.md a field is. The others change the structure: a weight read in another order, a stage left out.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "graph/print.h"
#include "io/config.h"
#include "parity/recompute.h"

namespace plumb {

// Where the number of a hypothesis is looked for.
struct Range {
  double low;
  double high;
  bool logarithmic;
  bool integer;
  std::vector<double> snaps;  // tried first: what a configuration would hold
};

struct Hypothesis {
  std::string row;  // of docs/causes.md: "30", "20a", "61"
  std::string
      field;  // "rope.pairing"; the structure's own word where no field says it: "linear.rows"
  std::string cause;  // for people, without the values
  FieldValue expected;
  FieldValue found;  // of a range: what was solved for
  std::optional<Range> range;
  // Changes stage `index`; `value` is of a range. False where the hypothesis does not concern that stage.
  std::function<bool(const BoundGraph& network, int index, double value, Patch& patch)> apply;
  bool later = false;  // shows in passes after the first alone: it is about what a cache holds
  bool everywhere = false;  // of all stages that it concerns at once, whatever their operation
  bool rounds = false;  // to a coarser type: what lies at a step's border may fall on its other side in an engine of another order of sums
  double rarity = 0;   // how much rarer than a convention's other value: breaks ties
};

inline const Stage& stage_at(const BoundGraph& network, int index) {
  return network.graph.stages[static_cast<std::size_t>(index)];
}

// What is left under a cause that rounds may be this share of what it explains.
inline constexpr double kOtherSides = 0.125;

// All hypotheses about one stage.
std::vector<Hypothesis> hypotheses_about(const BoundGraph& network, const Config& config,
                                         int index);

// The parts of it: by the stage's fields, by its place in the network, by other arithmetic on the same operands, by what attention
// sees, by the positions of later passes, by the type that its numbers have, by what stands around the stage in its block, by what
// recurrent layers, several streams, compressed entries and routed experts have of their own, by how stages are wired, by what is masked, and by what other places lend.
std::vector<Hypothesis> field_hypotheses(const BoundGraph& network, const Config& config,
                                         int index);
std::vector<Hypothesis> structural_hypotheses(const BoundGraph& network, int index);
std::vector<Hypothesis> computed_hypotheses(const BoundGraph& network, int index);
std::vector<Hypothesis> attention_hypotheses(const BoundGraph& network, int index);
std::vector<Hypothesis> position_hypotheses(const BoundGraph& network, int index);
std::vector<Hypothesis> precision_hypotheses(const BoundGraph& network, int index);
std::vector<Hypothesis> block_hypotheses(const BoundGraph& network, int index);
std::vector<Hypothesis> delta_hypotheses(const BoundGraph& network, int index);
std::vector<Hypothesis> stream_hypotheses(const BoundGraph& network, int index);
std::vector<Hypothesis> compressed_hypotheses(const BoundGraph& network, int index);
std::vector<Hypothesis> routing_hypotheses(const BoundGraph& network, int index);
std::vector<Hypothesis> wiring_hypotheses(const BoundGraph& network, int index);
std::vector<Hypothesis> mask_hypotheses(const BoundGraph& network, int index);
std::vector<Hypothesis> lent_hypotheses(const BoundGraph& network, int index);

// What rows.cpp knows about a field. A field without an entry is not tried.
struct FieldCause {
  std::string_view operation;  // as operation_name() says
  std::string_view field;
  std::string_view row;
  std::string_view cause;
  std::optional<Range> range;  // of numbers
  double rarity = 0;           // as in Hypothesis
};

const FieldCause* find_cause(std::string_view operation, std::string_view field);

// The stage as the patch has it so far.
Stage& patched_stage(const BoundGraph& network, int index, Patch& patch);

}  // namespace plumb
