// Engines' words for one thing: llama.cpp's, transformers' and vLLM's, as the trace format calls it.
#include "parity/name_words.h"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>
#include <utility>

namespace plumb {
namespace {

constexpr std::array<std::pair<std::string_view, std::string_view>, 45> kMeanings{{
    {"query", "q"},         {"queries", "q"},       {"qcur", "q"},
    {"key", "k"},           {"keys", "k"},          {"kcur", "k"},
    {"value", "v"},         {"values", "v"},        {"vcur", "v"},
    {"layernorm", "norm"},  {"rmsnorm", "norm"},    {"normed", "norm"},
    {"ln", "norm"},         {"roped", "rope"},      {"rotary", "rope"},
    {"rotated", "rope"},    {"rot", "rope"},        {"prob", "probs"},
    {"softmax", "probs"},   {"soft", "probs"},      {"probabilities", "probs"},
    {"kq", "scores"},       {"qk", "scores"},       {"score", "scores"},
    {"kqv", "context"},     {"ctx", "context"},     {"ffn", "mlp"},
    {"feedforward", "mlp"}, {"attention", "attn"},  {"output", "out"},
    {"proj", "out"},        {"down", "out"},        {"resid", "residual"},
    {"activation", "act"},  {"topk", "ids"},        {"indices", "ids"},
    {"selected", "ids"},    {"router", "moe"},      {"weight", "weights"},
    {"embd", "embed"},      {"embedding", "embed"}, {"embeddings", "embed"},
    {"logit", "logits"},    {"expert", "moe"},      {"hidden", "residual"},
}};
constexpr std::array<std::string_view, 15> kSaysNothing{
    "blk", "block", "blocks", "layer", "layers", "model",  "l",
    "cur", "self",  "h",      "max",   "inp",    "result", "x",  "states"};

bool known(const std::string& word) {
  return word == "norm" || word == "rope" || word == "cur" ||
         std::ranges::any_of(kMeanings, [&](const auto& entry) { return entry.first == word; });
}

void add(const std::string& word, std::set<std::string>& words) {
  if (std::ranges::find(kSaysNothing, word) != kSaysNothing.end()) return;
  for (const auto& [theirs, meaning] : kMeanings) {
    if (theirs == word) {
      words.insert(std::string(meaning));
      return;
    }
  }
  if (word == "qkv") {
    words.insert({"q", "k", "v"});
  } else if (word.size() > 2 && std::string_view("qkv").find(word[0]) != std::string_view::npos &&
             known(word.substr(1))) {  // Qnorm
    words.insert(word.substr(0, 1));
    add(word.substr(1), words);
  } else {
    words.insert(word);
  }
}

std::set<std::string> words_of(const std::string& name) {
  std::set<std::string> list;
  std::string word;
  for (const char c : name + ".") {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (letter) word += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    if (!letter && !word.empty()) add(std::exchange(word, {}), list);
  }
  return list;
}

}  // namespace

double shared_words(const std::string& a, const std::string& b) {
  const auto left = words_of(a);
  const auto right = words_of(b);
  const auto shared = static_cast<std::size_t>(
      std::ranges::count_if(left, [&](const std::string& word) { return right.contains(word); }));
  const std::size_t all = left.size() + right.size() - shared;
  return all > 0 ? static_cast<double>(shared) / static_cast<double>(all) : 0;
}

}  // namespace plumb
