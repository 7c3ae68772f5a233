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

constexpr std::string_view kTables[] = {"blk.{i}.ffn_gate_tid2eid.weight"};

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

// The architecture's own names, then the shared ones.
std::vector<GgufName> names_of(const GgufConventions& conventions, const Config& config) {
  std::vector<GgufName> names;
  if (conventions.sized_names != nullptr) names = conventions.sized_names(config);
  names.insert(names.end(), conventions.names.begin(), conventions.names.end());
  names.insert(names.end(), std::begin(kShared), std::end(kShared));
  return names;
}

// What a file stores of a weight: the inverse of the forms in gguf_files, in the opposite order.
Result<WeightPtr> stored_form(const GgufConventions& conventions, const Config& config,
                              const GgufName& entry, WeightPtr weight) {
  if (has_plus_one(conventions, entry.name)) weight = plus_one_view(std::move(weight));
  if (conventions.rotary_pairs && is_rotated(entry.name)) {
    PLUMB_TRY(weight, rotary_turns_view(std::move(weight), config.head_dim));
  }
  if (entry.minus_exp) weight = minus_exp_view(std::move(weight));
  if (entry.tiles && entry.tiled_columns) {
    PLUMB_TRY(weight, tiled_columns_view(std::move(weight), *entry.tiles, TileOrder::kTiled));
  } else if (entry.tiles) {
    PLUMB_TRY(weight, tiled_rows_view(std::move(weight), *entry.tiles, TileOrder::kTiled));
  }
  if (entry.squeezed) {
    const Shape& shape = weight->shape();
    const Shape squeezed = {shape.front(), shape.back()};
    PLUMB_TRY(weight, same_rows_view(std::move(weight), squeezed));
  }
  return weight;
}

Result<std::vector<GgufPlace>> split_places(const SplitRule& rule, const PatternMatch& match,
                                            const WeightPtr& weight) {
  std::vector<GgufPlace> places;
  std::int64_t first = 0;
  for (const SplitRule::Part& part : rule.parts) {
    PLUMB_TRY(WeightPtr rows, run_parts_view(weight, rule.groups, first, part.rows));
    const std::int64_t in = rows->row_length();
    if (part.layout == SplitRule::Layout::kTransposedStack) {
      PLUMB_TRY(rows, transposed_groups_view(std::move(rows), rule.groups));
    } else if (part.layout == SplitRule::Layout::kStack) {
      PLUMB_TRY(rows, same_rows_view(std::move(rows), {rule.groups, part.rows, in}));
    }
    places.push_back({.tensor = fill_pattern(part.stored, match),
                      .expert = std::nullopt,
                      .rows = std::nullopt,
                      .stored = std::move(rows),
                      .is_part = true});
    first += part.rows;
  }
  if (first * rule.groups != weight->rows()) {
    return Error{ErrorCode::kInternal, "the parts of \"" + std::string(rule.name) + "\" are " +
                                           std::to_string(first * rule.groups) + " rows of " +
                                           std::to_string(weight->rows())};
  }
  return places;
}

}  // namespace

FileConventions gguf_files(const GgufConventions& conventions, const Config& config) {
  using Form = NameRule::Form;
  FileConventions files;
  for (const GgufName& entry : names_of(conventions, config)) {
    NameRule rule{entry.name, entry.stored, {}, 0, static_cast<int>(config.head_dim)};
    const bool is_stack = entry.name.find(kExpert) != std::string_view::npos &&
                          entry.stored.find(kExpert) == std::string_view::npos;
    if (is_stack) rule.forms.push_back(Form::kExpertSlice);
    if (entry.rows) {
      rule.forms.push_back(Form::kRowRange);
      rule.first = *entry.rows;
    }
    if (entry.squeezed) rule.forms.push_back(Form::kReshaped);
    if (entry.tiles) {
      rule.forms.push_back(entry.tiled_columns ? Form::kTiledColumns : Form::kTiledRows);
      rule.tiles = *entry.tiles;
    }
    if (entry.minus_exp) rule.forms.push_back(Form::kLogOfMinus);
    if (conventions.rotary_pairs && is_rotated(entry.name))
      rule.forms.push_back(Form::kRotaryPairs);
    if (has_plus_one(conventions, entry.name)) rule.forms.push_back(Form::kLessOne);
    files.rules.push_back(std::move(rule));
  }
  if (conventions.splits != nullptr) files.splits = conventions.splits(config);
  if (config.integer("num_nextn_predict_layers", 0) > 0) {
    files.layers = "blk.{i}.*";
    files.ignored_from_layer = config.num_hidden_layers;
  }
  files.tables.assign(std::begin(kTables), std::end(kTables));
  files.ignored.assign(std::begin(kIgnored), std::end(kIgnored));
  return files;
}

Result<std::vector<GgufPlace>> gguf_places(const GgufConventions& conventions, const Config& config,
                                           std::string_view name, const WeightPtr& weight) {
  if (conventions.splits != nullptr) {
    for (const SplitRule& rule : conventions.splits(config)) {
      if (const auto match = match_pattern(rule.name, name))
        return split_places(rule, *match, weight);
    }
  }
  for (const GgufName& entry : names_of(conventions, config)) {
    const auto match = match_pattern(entry.name, name);
    if (!match) continue;
    GgufPlace place{.tensor = fill_pattern(entry.stored, *match),
                    .expert = std::nullopt,
                    .rows = entry.rows,
                    .stored = nullptr,
                    .is_part = false};
    if (!match->expert.empty() && entry.stored.find(kExpert) == std::string_view::npos) {
      std::int64_t expert = 0;
      std::from_chars(match->expert.data(), match->expert.data() + match->expert.size(), expert);
      place.expert = expert;
    }
    PLUMB_TRY(place.stored, stored_form(conventions, config, entry, weight));
    return std::vector<GgufPlace>{std::move(place)};
  }
  return std::vector<GgufPlace>{};
}

}  // namespace plumb
