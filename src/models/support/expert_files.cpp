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

std::vector<GgufName> shared_experts_gguf_names() {
  return {
      {"model.layers.{i}.mlp.shared_experts.gate_proj.weight", "blk.{i}.ffn_gate_shexp.weight"},
      {"model.layers.{i}.mlp.shared_experts.up_proj.weight", "blk.{i}.ffn_up_shexp.weight"},
      {"model.layers.{i}.mlp.shared_experts.down_proj.weight", "blk.{i}.ffn_down_shexp.weight"}};
}

}  // namespace plumb
