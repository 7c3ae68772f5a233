// Names of tensors: llama.cpp's (gguf/constants.py, TENSOR_NAMES; tensor_mapping.py) and transformers'.
#include "io/gguf/names.h"

#include <array>
#include <charconv>

#include "io/name_pattern.h"

namespace plumb {
namespace {

constexpr std::string_view kExpert = "{e}";

constexpr GgufName kShared[] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
    {"model.layers.{i}.input_layernorm.weight", "blk.{i}.attn_norm.weight"},
    {"model.layers.{i}.post_attention_layernorm.weight", "blk.{i}.ffn_norm.weight"},
    {"model.layers.{i}.self_attn.q_proj.weight", "blk.{i}.attn_q.weight"},
    {"model.layers.{i}.self_attn.k_proj.weight", "blk.{i}.attn_k.weight"},
    {"model.layers.{i}.self_attn.v_proj.weight", "blk.{i}.attn_v.weight"},
    {"model.layers.{i}.self_attn.o_proj.weight", "blk.{i}.attn_output.weight"},
    {"model.layers.{i}.self_attn.q_proj.bias", "blk.{i}.attn_q.bias"},
    {"model.layers.{i}.self_attn.k_proj.bias", "blk.{i}.attn_k.bias"},
    {"model.layers.{i}.self_attn.v_proj.bias", "blk.{i}.attn_v.bias"},
    {"model.layers.{i}.self_attn.o_proj.bias", "blk.{i}.attn_output.bias"},
    {"model.layers.{i}.self_attn.q_norm.weight", "blk.{i}.attn_q_norm.weight"},
    {"model.layers.{i}.self_attn.k_norm.weight", "blk.{i}.attn_k_norm.weight"},
    {"model.layers.{i}.self_attn.sinks", "blk.{i}.attn_sinks.weight"},
    {"model.layers.{i}.mlp.gate_proj.weight", "blk.{i}.ffn_gate.weight"},
    {"model.layers.{i}.mlp.up_proj.weight", "blk.{i}.ffn_up.weight"},
    {"model.layers.{i}.mlp.down_proj.weight", "blk.{i}.ffn_down.weight"},
    {"model.layers.{i}.mlp.gate_proj.bias", "blk.{i}.ffn_gate.bias"},
    {"model.layers.{i}.mlp.up_proj.bias", "blk.{i}.ffn_up.bias"},
    {"model.layers.{i}.mlp.down_proj.bias", "blk.{i}.ffn_down.bias"},
    {"model.layers.{i}.mlp.gate.weight", "blk.{i}.ffn_gate_inp.weight"},
    {"model.layers.{i}.mlp.experts.{e}.gate_proj.weight", "blk.{i}.ffn_gate_exps.weight"},
    {"model.layers.{i}.mlp.experts.{e}.up_proj.weight", "blk.{i}.ffn_up_exps.weight"},
    {"model.layers.{i}.mlp.experts.{e}.down_proj.weight", "blk.{i}.ffn_down_exps.weight"},
};

// Buffers and tables that Config has taken in, or that files of old versions hold.
constexpr std::string_view kIgnored[] = {"rope_freqs.weight", "blk.{i}.rope_freqs.weight",
                                         "rope_factors_long.weight", "rope_factors_short.weight",
                                         "blk.{i}.attn_rot_embd.weight"};

bool is_rotated(std::string_view name) {
  for (const std::string_view end :
       {"q_proj.weight", "k_proj.weight", "q_proj.bias", "k_proj.bias"}) {
    if (name.ends_with(end)) return true;
  }
  return false;
}

bool has_plus_one(const GgufConventions& conventions, std::string_view name) {
  return conventions.norms_plus_one && name.ends_with("norm.weight") &&
         !name.ends_with("linear_attn.norm.weight");
}

// Calls visit(GgufName) for the architecture's own names, then the shared ones, until one returns true.
template <class F>
void for_each_name(const GgufConventions& conventions, F visit) {
  for (const GgufName& entry : conventions.names) {
    if (visit(entry)) return;
  }
  for (const GgufName& entry : kShared) {
    if (visit(entry)) return;
  }
}

}  // namespace

FileConventions gguf_files(const GgufConventions& conventions, const Config& config) {
  FileConventions files;
  for_each_name(conventions, [&](const GgufName& entry) {
    NameRule rule{entry.name, entry.stored, {}, 0, static_cast<int>(config.head_dim)};
    const bool is_stack = entry.name.find(kExpert) != std::string_view::npos &&
                          entry.stored.find(kExpert) == std::string_view::npos;
    if (is_stack) rule.forms.push_back(NameRule::Form::kExpertSlice);
    if (entry.rows) {
      rule.forms.push_back(NameRule::Form::kRowRange);
      rule.first = *entry.rows;
    }
    if (conventions.rotary_pairs && is_rotated(entry.name))
      rule.forms.push_back(NameRule::Form::kRotaryPairs);
    if (has_plus_one(conventions, entry.name)) rule.forms.push_back(NameRule::Form::kLessOne);
    files.rules.push_back(std::move(rule));
    return false;
  });
  files.ignored.assign(std::begin(kIgnored), std::end(kIgnored));
  return files;
}

std::optional<GgufPlace> gguf_place(const GgufConventions& conventions, std::string_view name) {
  std::optional<GgufPlace> place;
  for_each_name(conventions, [&](const GgufName& entry) {
    const auto match = match_pattern(entry.name, name);
    if (!match) return false;
    place =
        GgufPlace{fill_pattern(entry.stored, *match), std::nullopt, entry.rows,
                  conventions.rotary_pairs && is_rotated(name), has_plus_one(conventions, name)};
    if (!match->expert.empty() && entry.stored.find(kExpert) == std::string_view::npos) {
      std::int64_t expert = 0;
      std::from_chars(match->expert.data(), match->expert.data() + match->expert.size(), expert);
      place->expert = expert;
    }
    return true;
  });
  return place;
}

}  // namespace plumb
