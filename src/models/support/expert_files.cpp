// The forms in which experts are published.
#include "models/support/expert_files.h"

namespace plumb {

NameRule stacked_expert(std::string_view name, std::string_view stored) {
  return {.name = name,
          .stored = stored,
          .forms = {NameRule::Form::kExpertSlice},
          .first = 0,
          .count = 1};
}

std::vector<NameRule> switch_mlp_rules() {
  return {stacked_expert("model.layers.{i}.mlp.experts.{e}.gate_proj.weight",
                         "model.layers.{i}.mlp.switch_mlp.gate_proj.weight"),
          stacked_expert("model.layers.{i}.mlp.experts.{e}.up_proj.weight",
                         "model.layers.{i}.mlp.switch_mlp.up_proj.weight"),
          stacked_expert("model.layers.{i}.mlp.experts.{e}.down_proj.weight",
                         "model.layers.{i}.mlp.switch_mlp.down_proj.weight")};
}

}  // namespace plumb
