// Names of stages as other engines write them, in the trace format's words: "blk.3.attn_q", "Qcur-3" and
// "model.layers.3.self_attn.q_proj" are layer 3, "attn.q".
#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

struct StageName {
  int layer;  // -1: outside the layers
  std::string
      role;  // what follows "layers.N." in the trace format; the engine's own words where they are not known
  std::vector<std::string> parts;  // of a fused tensor: the roles it holds, in order; else empty
  bool known;                      // role is one of the trace format's
};

StageName stage_name(std::string_view name);

// "layers.3.attn.q", "logits".
std::string canonical_name(const StageName& name);

// How alike two names are, from 0 to 1: 1 where both mean the same role, else the words that they share over all their words.
double likeness(const StageName& a, const StageName& b);

// Where a stage stands in the order of execution, by what is usual; unknown roles after the known ones of their layer.
std::size_t execution_rank(const StageName& name);

// Each token's values in no row of its own: the state after the step.
bool is_whole(std::string_view role);

// Values [heads, keys], whose last axis grows with the positions seen.
bool is_over_keys(std::string_view role);

// Choices by number (experts, blocks) rather than measures.
bool is_choice(std::string_view role);

}  // namespace plumb
