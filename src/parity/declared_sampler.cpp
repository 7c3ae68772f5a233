#include "parity/declared_sampler.h"

#include <cmath>
#include <cstdlib>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string_view>

namespace plumb {
namespace {

using nlohmann::json;

const json* member(const json& object, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const auto found = object.find(name);
    if (found != object.end() && !found->is_null()) return &*found;
  }
  return nullptr;
}

std::optional<double> number(const json& object, std::initializer_list<const char*> names) {
  const json* found = member(object, names);
  if (found == nullptr || !found->is_number() || !std::isfinite(found->get<double>())) return std::nullopt;
  return found->get<double>();
}

std::optional<std::int64_t> count(const json& object, std::initializer_list<const char*> names) {
  constexpr double kMost = 1e15;
  const auto found = number(object, names);
  if (!found || std::abs(*found) > kMost) return std::nullopt;
  return static_cast<std::int64_t>(*found);
}

bool is_true(const json& object, std::initializer_list<const char*> names) {
  const json* found = member(object, names);
  return found != nullptr && found->is_boolean() && found->get<bool>();
}

bool is_false(const json& object, const char* name) {
  const json* found = member(object, {name});
  return found != nullptr && found->is_boolean() && !found->get<bool>();
}

void read_choice(const json& object, DeclaredSampler& sampler) {
  const bool sampled = is_true(object, {"do_sample"});
  if (const auto given = number(object, {"temperature", "temp"})) sampler.temperature = std::max(*given, 0.0);
  else if (sampled) sampler.temperature = 1;
  sampler.top_k = std::max<std::int64_t>(count(object, {"top_k"}).value_or(0), 0);
  sampler.top_p = number(object, {"top_p"}).value_or(1);
  sampler.min_p = number(object, {"min_p"}).value_or(0);
  const json* kind = member(object, {"name", "kind", "type", "method"});
  const bool greedy = kind != nullptr && kind->is_string() && kind->get<std::string>() == "greedy";
  if (is_false(object, "do_sample") || is_true(object, {"greedy"}) || greedy || sampler.top_k == 1) sampler.temperature = 0;
  if (const auto given = number(object, {"repetition_penalty", "repeat_penalty", "penalty_repeat"}); given && *given > 0) sampler.penalty.repetition = *given;
  sampler.penalty.presence = number(object, {"presence_penalty", "penalty_present"}).value_or(0);
  sampler.penalty.frequency = number(object, {"frequency_penalty", "penalty_freq"}).value_or(0);
  if (const auto last = count(object, {"repeat_last_n", "penalty_last_n", "repetition_context_size"}); last && *last > 0) sampler.penalty.window = last;
  if (const json* bias = member(object, {"logit_bias"}); bias != nullptr && bias->is_object()) {
    constexpr std::int32_t kDecimal = 10;
    for (const auto& [id, value] : bias->items()) {
      if (value.is_number()) sampler.penalty.bias[static_cast<std::int32_t>(std::strtol(id.c_str(), nullptr, kDecimal))] = value.get<double>();
    }
  }
  // Neutral where they are 0, 1, "" or empty.
  for (const char* name : {"typical_p", "typical", "mirostat", "dynatemp_range", "xtc_probability", "dry_multiplier", "top_a", "tfs_z", "epsilon_cutoff",
                           "eta_cutoff", "grammar", "guided_json", "num_beams", "no_repeat_ngram_size", "bad_words_ids", "penalty_alpha"}) {
    const json* found = member(object, {name});
    if (found == nullptr || found->empty() || *found == 0 || *found == 1 || *found == "" || *found == false) continue;
    sampler.more = true;
  }
}

void read_end(const json& object, DeclaredSampler& sampler) {
  if (const auto most = count(object, {"max_tokens", "max_new_tokens", "max_completion_tokens", "n_predict", "num_predict"}); most && *most > 0)
    sampler.max_tokens = most;
  if (is_true(object, {"ignore_eos"}) || count(object, {"min_tokens", "min_new_tokens"}).value_or(0) > 0) sampler.ignores_stops = true;
  const json* stop = member(object, {"stop", "stop_strings", "stop_sequences", "antiprompt"});
  if (stop == nullptr) return;
  for (const json& text : stop->is_array() ? *stop : json::array({*stop})) {
    if (text.is_string() && !text.get<std::string>().empty()) sampler.stop_texts.push_back(text.get<std::string>());
  }
}

}  // namespace

DeclaredSampler declared_sampler(const TraceManifest& manifest) {
  DeclaredSampler sampler;
  const json said = json::parse(manifest.sampler, nullptr, false);
  if (said.is_object()) {
    read_choice(said, sampler);
    read_end(said, sampler);
  }
  const json settings = json::parse(manifest.settings, nullptr, false);
  if (settings.is_object()) read_end(settings, sampler);
  return sampler;
}

}  // namespace plumb
