// What Config keeps behind its interface: the merged keys as JSON, and what has been read of them.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "io/config.h"

namespace plumb {

struct Config::Impl {
  std::string text;  // config.json as it was read
  std::string where;
  nlohmann::json values;  // an object: canonical keys, text_config merged over the top level
  std::string model_type;
  std::string text_model_type;
  nlohmann::json generation_eos;  // generation_config's eos_token_id, null when it has none
  std::string generation_where;   // that file's name
  std::optional<std::string> complaint;
  std::set<std::string, std::less<>> read;      // canonical keys
  std::set<std::string, std::less<>> defaults;  // those that apply_defaults() filled in
  std::vector<std::string> unread_rope;         // "rope_parameters.KEY"

  void complain(const std::string& what) {
    if (!complaint) complaint = where + ": " + what;
  }

  // The value of `key`, by any of its names; nothing when absent. Marks the key as read.
  const nlohmann::json* find(std::string_view key);

  // As find, and nothing for null.
  const nlohmann::json* present(std::string_view key);
};

// The value as a number that float64 holds finitely; otherwise a complaint about `key`, and
// nothing.
std::optional<double> number_of(Config::Impl& impl, const nlohmann::json& value,
                                std::string_view key);
std::optional<std::int64_t> integer_of(Config::Impl& impl, const nlohmann::json& value,
                                       std::string_view key);

// Fills rope and rope_of_layer_type from rope_parameters, rope_scaling, rope_theta and their like.
void read_rope(Config& config, Config::Impl& impl);

}  // namespace plumb
