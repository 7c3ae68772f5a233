// Sources of the names: llama.cpp's graph callbacks (src/llama-graph.cpp, src/models/*.cpp: "Qcur", "ffn_inp", "l_out") and
// GGUF's
// tensor names (gguf-py/gguf/constants.py), module paths of transformers and mlx-lm.
#include "parity/stage_names.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

namespace plumb {
namespace {

// What the trace format names (docs/trace-format.md), after "layers.N.", in the usual order of execution.
constexpr std::string_view kRoles[] = {
    "hc_attn.pre",   "hc_attn.post",   "hc_attn.comb",    "attn.norm",
    "attn.q_a",      "attn.q_a_norm",  "attn.q",          "attn.k",
    "attn.v",        "attn.kv",        "attn.kv_norm",    "attn.gate",
    "linear.qkv",    "linear.z",       "linear.b",        "linear.a",
    "linear.conv",   "linear.q",       "linear.k",        "linear.v",
    "linear.beta",   "linear.g",       "linear.context",  "linear.state",
    "linear.norm",   "attn.q_norm",    "attn.k_norm",     "attn.q_rope",
    "attn.k_rope",   "attn.kv_rope",   "attn.compressed", "attn.selected",
    "attn.scores",   "attn.probs",     "attn.context",    "attn.context_unrope",
    "attn.out",      "attn.post_norm", "attn.residual",   "hc_mlp.pre",
    "hc_mlp.post",   "hc_mlp.comb",    "mlp.norm",        "mlp.gate",
    "mlp.up",        "mlp.act",        "moe.logits",      "moe.probs",
    "moe.ids",       "moe.weights",    "moe.shared",      "mlp.out",
    "mlp.post_norm", "residual",       "streams"};
constexpr std::string_view kOutside[] = {"embed", "norm", "logits", "logprobs", "logprobs.ids"};

struct Alias {
  std::string_view theirs;  // in small letters, words joined by "_"
  std::string_view role;
};

constexpr Alias kAliases[] = {
    {"attn_norm", "attn.norm"},
    {"input_layernorm", "attn.norm"},
    {"attention_norm", "attn.norm"},
    {"ln_1", "attn.norm"},
    {"qcur", "attn.q"},
    {"kcur", "attn.k"},
    {"vcur", "attn.v"},
    {"attn_q", "attn.q"},
    {"attn_k", "attn.k"},
    {"attn_v", "attn.v"},
    {"self_attn_q_proj", "attn.q"},
    {"self_attn_k_proj", "attn.k"},
    {"self_attn_v_proj", "attn.v"},
    {"qcur_normed", "attn.q_norm"},
    {"kcur_normed", "attn.k_norm"},
    {"qnorm", "attn.q_norm"},
    {"knorm", "attn.k_norm"},
    {"attn_q_norm", "attn.q_norm"},
    {"attn_k_norm", "attn.k_norm"},
    {"self_attn_q_norm", "attn.q_norm"},
    {"self_attn_k_norm", "attn.k_norm"},
    {"qcur_rope", "attn.q_rope"},
    {"kcur_rope", "attn.k_rope"},
    {"q_rope", "attn.q_rope"},
    {"k_rope", "attn.k_rope"},
    {"kq", "attn.scores"},
    {"attn_scores", "attn.scores"},
    {"kq_soft_max", "attn.probs"},
    {"kq_soft_max_ext", "attn.probs"},
    {"attn_probs", "attn.probs"},
    {"attn_weights", "attn.probs"},
    {"kqv", "attn.context"},
    {"kqv_out", "attn.context"},
    {"attn_context", "attn.context"},
    {"attn_out", "attn.out"},
    {"attn_output", "attn.out"},
    {"self_attn_o_proj", "attn.out"},
    {"self_attn", "attn.out"},
    {"attn_post_norm", "attn.post_norm"},
    {"ffn_inp", "attn.residual"},
    {"attn_residual", "attn.residual"},
    {"ffn_norm", "mlp.norm"},
    {"mlp_norm", "mlp.norm"},
    {"post_attention_layernorm", "mlp.norm"},
    {"pre_feedforward_layernorm", "mlp.norm"},
    {"ffn_gate", "mlp.gate"},
    {"mlp_gate", "mlp.gate"},
    {"mlp_gate_proj", "mlp.gate"},
    {"ffn_up", "mlp.up"},
    {"mlp_up", "mlp.up"},
    {"mlp_up_proj", "mlp.up"},
    {"ffn_gate_par", "mlp.act"},
    {"ffn_swiglu", "mlp.act"},
    {"mlp_act", "mlp.act"},
    {"ffn_out", "mlp.out"},
    {"ffn_down", "mlp.out"},
    {"mlp_down_proj", "mlp.out"},
    {"mlp_out", "mlp.out"},
    {"mlp", "mlp.out"},
    {"ffn_post_norm", "mlp.post_norm"},
    {"post_feedforward_layernorm", "mlp.post_norm"},
    {"ffn_moe_logits", "moe.logits"},
    {"moe_logits", "moe.logits"},
    {"ffn_moe_probs", "moe.probs"},
    {"moe_probs", "moe.probs"},
    {"ffn_moe_topk", "moe.ids"},
    {"moe_ids", "moe.ids"},
    {"ffn_moe_weights", "moe.weights"},
    {"ffn_moe_weights_norm", "moe.weights"},
    {"moe_weights", "moe.weights"},
    {"ffn_moe_out", "mlp.out"},
    {"l_out", "residual"},
    {"layer_out", "residual"},
};

constexpr Alias kOutsideAliases[] = {
    {"inp_embd", "embed"},           {"token_embd", "embed"}, {"embed_tokens", "embed"},
    {"model_embed_tokens", "embed"}, {"embedding", "embed"},  {"result_norm", "norm"},
    {"output_norm", "norm"},         {"model_norm", "norm"},  {"final_norm", "norm"},
    {"result_output", "logits"},     {"output", "logits"},    {"lm_head", "logits"},
};

struct Fused {
  std::string_view theirs;
  std::array<std::string_view, 3> parts;
};

constexpr Fused kFusedNames[] = {
    {"qkv", {"attn.q", "attn.k", "attn.v"}},
    {"attn_qkv", {"attn.q", "attn.k", "attn.v"}},
    {"wqkv", {"attn.q", "attn.k", "attn.v"}},
    {"self_attn_qkv_proj", {"attn.q", "attn.k", "attn.v"}},
    {"gate_up", {"mlp.gate", "mlp.up", ""}},
    {"ffn_gate_up", {"mlp.gate", "mlp.up", ""}},
    {"mlp_gate_up", {"mlp.gate", "mlp.up", ""}},
    {"mlp_gate_up_proj", {"mlp.gate", "mlp.up", ""}},
};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// The name's words in small letters, joined by "_".
std::string joined(std::string_view name) {
  std::string out;
  for (const char c : name) {
    if (is_letter(c) || is_digit(c)) {
      out += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    } else if (!out.empty() && out.back() != '_') {
      out += '_';
    }
  }
  while (!out.empty() && out.back() == '_')
    out.pop_back();
  return out;
}

// The first whole number in the name is its layer: taken out of `rest`, with the word for layers before it.
int take_layer(std::string_view name, std::string& rest) {
  constexpr std::size_t kMaxDigits = 6;
  constexpr std::string_view kContainers[] = {"model.layers", "layers", "layer", "blk",
                                              "model.blocks", "blocks", "h"};
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (!is_digit(name[i]) ||
        (i > 0 && (is_letter(name[i - 1]) || is_digit(name[i - 1]) || name[i - 1] == '_')))
      continue;
    std::size_t end = i;
    int layer = 0;
    while (end < name.size() && is_digit(name[end]) && end < i + kMaxDigits)
      layer = 10 * layer + (name[end++] - '0');
    if (end < name.size() && (is_letter(name[end]) || is_digit(name[end]) || name[end] == '_'))
      continue;
    std::string_view before = name.substr(0, i > 0 ? i - 1 : 0);
    const std::string_view after = end < name.size() ? name.substr(end + 1) : std::string_view();
    for (const std::string_view container : kContainers) {
      if (before != container) continue;
      before = {};
      break;
    }
    rest = std::string(before) + (before.empty() || after.empty() ? "" : ".") + std::string(after);
    return layer;
  }
  rest = std::string(name);
  return -1;
}

bool one_of(std::string_view role, std::initializer_list<std::string_view> list) {
  return std::find(list.begin(), list.end(), role) != list.end();
}

}  // namespace

StageName stage_name(std::string_view name) {
  StageName result{.layer = -1, .role = {}, .parts = {}, .known = false};
  std::string rest;
  result.layer = take_layer(name, rest);
  const auto is_role = [&](const auto& list) {
    return std::find(std::begin(list), std::end(list), rest) != std::end(list);
  };
  result.role = rest;
  if ((result.layer >= 0 && is_role(kRoles)) || (result.layer < 0 && is_role(kOutside))) {
    result.known = true;
    return result;
  }
  const std::string words = joined(rest);
  const auto look_up = [&](const auto& aliases) {
    for (const Alias& alias : aliases) {
      if (alias.theirs != words) continue;
      result.role = alias.role;
      result.known = true;
    }
  };
  if (result.layer >= 0) {
    look_up(kAliases);
    if (words.empty())
      result = {.layer = result.layer, .role = "residual", .parts = {}, .known = true};
    for (const Fused& fused : kFusedNames) {
      if (fused.theirs != words) continue;
      for (const std::string_view part : fused.parts) {
        if (!part.empty()) result.parts.emplace_back(part);
      }
    }
  } else {
    look_up(kOutsideAliases);
  }
  return result;
}

std::string canonical_name(const StageName& name) {
  return name.layer < 0 ? name.role : "layers." + std::to_string(name.layer) + "." + name.role;
}

double likeness(const StageName& a, const StageName& b) {
  if (a.role == b.role) return 1;
  const auto is_part = [](const StageName& whole, const StageName& part) {
    return std::find(whole.parts.begin(), whole.parts.end(), part.role) != whole.parts.end();
  };
  if (is_part(a, b) || is_part(b, a)) return 1;
  if (a.known && b.known) return 0;
  const auto words = [](const std::string& role) {
    std::set<std::string> list;
    std::string word;
    for (const char c : joined(role) + "_") {
      if (c != '_') word += c;
      if (c == '_' && !word.empty()) list.insert(std::exchange(word, {}));
    }
    return list;
  };
  const auto left = words(a.role);
  const auto right = words(b.role);
  const auto shared = std::count_if(left.begin(), left.end(),
                                    [&](const std::string& word) { return right.contains(word); });
  const auto all = std::ssize(left) + std::ssize(right) - shared;
  return all > 0 ? static_cast<double>(shared) / static_cast<double>(all) : 0;
}

std::size_t execution_rank(const StageName& name) {
  constexpr std::size_t kPerLayer = 1000;
  constexpr std::size_t kLast = std::size_t{1} << 40;
  if (name.layer < 0) {
    const auto found = std::find(std::begin(kOutside), std::end(kOutside), name.role);
    return name.role == "embed" ? 0
                                : kLast + static_cast<std::size_t>(found - std::begin(kOutside));
  }
  const auto found = std::find(std::begin(kRoles), std::end(kRoles), name.role);
  return 1 + static_cast<std::size_t>(name.layer) * kPerLayer +
         static_cast<std::size_t>(found - std::begin(kRoles));
}

bool is_whole(std::string_view role) {
  // Compressed entries stand for blocks of tokens; the projections that they are pooled from for tokens.
  const bool block = role.starts_with("attn.compressed") || role.starts_with("attn.index_entries");
  return role == "linear.state" || (block && !role.ends_with("_kv") && !role.ends_with("_gate"));
}

bool is_over_keys(std::string_view role) {
  return one_of(role, {"attn.scores", "attn.probs"});
}

bool is_choice(std::string_view role) {
  return one_of(role, {"moe.ids", "attn.selected", "logprobs.ids"});
}

}  // namespace plumb
