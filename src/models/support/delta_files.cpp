// The forms in which hybrid checkpoints are published. mlx-lm, models/qwen3_5.py and
// models/qwen3_next.py, sanitize: it takes a transposed convolution as the sign that a file has been
// converted.
#include "models/support/delta_files.h"

#include "models/support/expert_files.h"

namespace plumb {
namespace {

constexpr std::string_view kConvolution = "model.layers.{i}.linear_attn.conv1d.weight";

NameRule stored_as(std::string_view name, std::string_view stored,
                   std::vector<NameRule::Form> forms, int first) {
  return {.name = name, .stored = stored, .forms = std::move(forms), .first = first, .count = 1};
}

NameRule converted(std::string_view name, NameRule::Form form) {
  NameRule rule = stored_as(name, name, {form}, 0);
  rule.only_beside_column = kConvolution;
  return rule;
}

}  // namespace

FileConventions hybrid_files() {
  using Form = NameRule::Form;
  return {.rules = {converted(kConvolution, Form::kReshaped),
                    converted("model.layers.{i}.input_layernorm.weight", Form::kLessOne),
                    converted("model.layers.{i}.post_attention_layernorm.weight", Form::kLessOne),
                    converted("model.layers.{i}.self_attn.q_norm.weight", Form::kLessOne),
                    converted("model.layers.{i}.self_attn.k_norm.weight", Form::kLessOne),
                    converted("model.norm.weight", Form::kLessOne)},
          .ignored = {"model.visual.*", "vision_tower.*", "mtp.*", "language_model.mtp.*",
                      "lm_head.weight"},
          .prefixes = {{.canonical = "model.", .stored = "model.language_model."},
                       {.canonical = "model.", .stored = "language_model.model."},
                       {.canonical = "lm_head.", .stored = "language_model.lm_head."}}};
}

FileConventions hybrid_expert_files() {
  using Form = NameRule::Form;
  FileConventions files = hybrid_files();
  constexpr std::string_view kGate = "model.layers.{i}.mlp.experts.{e}.gate_proj.weight";
  constexpr std::string_view kUp = "model.layers.{i}.mlp.experts.{e}.up_proj.weight";
  constexpr std::string_view kDown = "model.layers.{i}.mlp.experts.{e}.down_proj.weight";
  constexpr std::string_view kGateUp = "model.layers.{i}.mlp.experts.gate_up_proj";
  const NameRule fused[] = {
      stored_as(kGate, kGateUp, {Form::kExpertSlice, Form::kRowRange}, 0),
      stored_as(kUp, kGateUp, {Form::kExpertSlice, Form::kRowRange}, 1),
      stored_as(kDown, "model.layers.{i}.mlp.experts.down_proj", {Form::kExpertSlice}, 0)};
  files.rules.insert(files.rules.end(), std::begin(fused), std::end(fused));
  const std::vector<NameRule> stacked = switch_mlp_rules();
  files.rules.insert(files.rules.end(), stacked.begin(), stacked.end());
  return files;
}

}  // namespace plumb
