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

// The value heads of one key head, as many for each.
HeadTiles value_tiles(const Config& c, std::int64_t width) {
  const std::int64_t groups = c.integer("linear_num_key_heads");
  const std::int64_t heads = c.integer("linear_num_value_heads");
  return {.groups = groups, .of_group = groups > 0 ? heads / groups : 0, .width = width};
}

std::vector<GgufName> tiled_names(const Config& c) {
  const HeadTiles heads = value_tiles(c, 1);
  const HeadTiles channels = value_tiles(c, c.integer("linear_value_head_dim"));
  return {
      {.name = "model.layers.{i}.linear_attn.in_proj_qkv.weight",
       .stored = "blk.{i}.attn_qkv.weight",
       .tiles = channels},
      {.name = "model.layers.{i}.linear_attn.in_proj_z.weight",
       .stored = "blk.{i}.attn_gate.weight",
       .tiles = channels},
      {.name = "model.layers.{i}.linear_attn.in_proj_b.weight",
       .stored = "blk.{i}.ssm_beta.weight",
       .tiles = heads},
      {.name = "model.layers.{i}.linear_attn.in_proj_a.weight",
       .stored = "blk.{i}.ssm_alpha.weight",
       .tiles = heads},
      {.name = "model.layers.{i}.linear_attn.A_log",
       .stored = "blk.{i}.ssm_a",
       .minus_exp = true,
       .tiles = heads},
      {.name = "model.layers.{i}.linear_attn.dt_bias",
       .stored = "blk.{i}.ssm_dt.bias",
       .tiles = heads},
      {.name = kConvolution,
       .stored = "blk.{i}.ssm_conv1d.weight",
       .squeezed = true,
       .tiles = channels},
      {.name = "model.layers.{i}.linear_attn.out_proj.weight",
       .stored = "blk.{i}.ssm_out.weight",
       .tiles = channels,
       .tiled_columns = true},
  };
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

// llama.cpp computes with one width for all heads of the delta-net.
std::vector<std::string> delta_caveats(const Config& c) {
  const std::int64_t key = c.integer("linear_key_head_dim");
  const std::int64_t value = c.integer("linear_value_head_dim");
  if (key == value) return {};
  return {"llama.cpp does not load it: linear_key_head_dim is " + std::to_string(key) +
          ", linear_value_head_dim " + std::to_string(value) + ", and it knows only equal ones"};
}

GgufConventions hybrid_gguf(std::string_view architecture) {
  return {.architecture = architecture,
          .norms_plus_one = true,
          .names = hybrid_gguf_names(),
          .sized_names = tiled_names,
          .keys = delta_gguf_keys(),
          .recurrent = true,
          .rope_sections = {11, 11, 10, 0},
          .caveats = delta_caveats};
}

std::vector<GgufName> hybrid_gguf_names() {
  return {{"model.layers.{i}.post_attention_layernorm.weight", "blk.{i}.post_attention_norm.weight"},
          {"model.layers.{i}.linear_attn.norm.weight", "blk.{i}.ssm_norm.weight"}};
}

std::vector<GgufName> hybrid_expert_gguf_names() {
  std::vector<GgufName> names = hybrid_gguf_names();
  const GgufName experts[] = {
      {"model.layers.{i}.mlp.shared_expert.gate_proj.weight", "blk.{i}.ffn_gate_shexp.weight"},
      {"model.layers.{i}.mlp.shared_expert.up_proj.weight", "blk.{i}.ffn_up_shexp.weight"},
      {"model.layers.{i}.mlp.shared_expert.down_proj.weight", "blk.{i}.ffn_down_shexp.weight"},
      {"model.layers.{i}.mlp.shared_expert_gate.weight", "blk.{i}.ffn_gate_inp_shexp.weight"}};
  names.insert(names.end(), std::begin(experts), std::end(experts));
  return names;
}

std::vector<GgufKey> delta_gguf_keys() {
  return {{"ssm.conv_kernel", "linear_conv_kernel_dim"},
          {"ssm.state_size", "linear_key_head_dim"},
          {"ssm.group_count", "linear_num_key_heads"},
          {"ssm.time_step_rank", "linear_num_value_heads"},
          {.key = "ssm.inner_size",
           .config = "linear_value_head_dim",
           .times = "linear_num_value_heads"},
          {"full_attention_interval", "full_attention_interval"}};
}

}  // namespace plumb
