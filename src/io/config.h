// Config: what config.json, generation_config.json and tokenizer_config.json say together, in one
// canonical form. Both ways of writing config.json are read: transformers 5 (rope_parameters,
// dtype) and before (rope_theta, rope_scaling, torch_dtype, num_experts or num_local_experts;
// canonical here: num_experts).
//   PLUMB_TRY(Config config, Config::read(folder, std::nullopt));
//   config.apply_defaults(R"({"rms_norm_eps": 1e-6, "rope_theta": 10000})");   // what the
//   architecture's class defaults to
// Getters never fail outright: the first missing, mistyped or out-of-range key is kept, and
// status() returns it.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace plumb {

// transformers, modeling_rope_utils.py. Optionals are absent when the file does not say.
struct RopeParameters {
  std::string type = "default";  // default, linear, dynamic, yarn, llama3, longrope
  double theta = 0;
  double partial_rotary_factor = 1;
  std::optional<double> factor;
  std::optional<double> original_max_position_embeddings;
  std::optional<double> low_freq_factor;
  std::optional<double> high_freq_factor;
  std::optional<double> attention_factor;
  std::optional<double> beta_fast;
  std::optional<double> beta_slow;
  std::optional<double> mscale;
  std::optional<double> mscale_all_dim;
  bool truncate = true;
  std::vector<double> short_factor;
  std::vector<double> long_factor;
  std::vector<double>
      divisors;  // GGUF's rope_freqs: type "divisors"; pair i turns with 1 / (theta^(2i/R) * divisors[i])

  bool operator==(const RopeParameters&) const = default;
};

class Config {
 public:
  // `path` is a model's folder, or its config.json; `config_file` takes the place of the folder's
  // config.json.
  static Result<Config> read(const std::filesystem::path& path,
                             const std::optional<std::filesystem::path>& config_file);
  static Result<Config> parse(std::string_view json,
                              std::string_view where);  // config.json's text alone

  Config(Config&&) noexcept;
  Config& operator=(Config&&) noexcept;
  ~Config();

  std::string model_type() const;  // of the top level
  std::string text_model_type()
      const;  // of text_config, where the file has one (its keys are merged over the top level)
  std::string where() const;  // the file, for error messages

  // Fills keys that the files leave out, from the text of a JSON object. Call once, before the
  // getters; the fields below are filled here.
  Status apply_defaults(std::string_view json_object);

  // Fields that every decoder has. head_dim falls back to hidden_size / num_attention_heads,
  // num_key_value_heads to num_attention_heads. Sizes are checked: 1 or more, and at most 2^31 - 1.
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t num_hidden_layers = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t num_key_value_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t max_position_embeddings = 0;
  double rms_norm_eps = 0;
  std::string hidden_act;
  bool tie_word_embeddings = false;
  std::optional<std::int64_t> sliding_window;
  std::vector<std::string> layer_types;  // empty, or one per layer
  RopeParameters rope;                   // of all layers, or of the layer type "full_attention"
  std::map<std::string, RopeParameters, std::less<>>
      rope_of_layer_type;  // empty when all layers share `rope`

  std::vector<std::int32_t> stop_ids;  // eos ids of config and generation_config, united, ascending
  std::string tokenizer_eos;           // tokenizer_config's eos_token, "" when it has none

  // Anything else, by its canonical key. `integer(key)` requires the key; the two-argument forms
  // fall back.
  std::int64_t integer(std::string_view key) const;
  std::int64_t integer(std::string_view key, std::int64_t fallback) const;
  double number(std::string_view key) const;
  double number(std::string_view key, double fallback) const;
  bool flag(std::string_view key, bool fallback) const;
  std::string text(std::string_view key, std::string_view fallback) const;
  std::optional<std::int64_t> maybe_integer(
      std::string_view key) const;  // null and absent are nothing
  std::optional<double> maybe_number(std::string_view key) const;
  // A number in the object under `key`: compress_rates.
  std::optional<std::int64_t> maybe_integer(std::string_view key, std::string_view member) const;
  std::vector<std::int64_t> integers(std::string_view key) const;  // empty when absent or null
  std::vector<std::string> texts(std::string_view key) const;
  bool has(std::string_view key) const;  // present and not null
  std::string json_of(std::string_view key)
      const;  // the JSON text of a key's value, "" when absent: quantization_config

  void mark_read(std::string_view key) const;  // what another format's reader derived: unread() passes it over
  // An architecture's own complaint, kept like a getter's; the file's name is put before it.
  void reject(std::string message) const;
  Status status() const;  // the first complaint

  // Keys that no getter read and that are not known to leave the computation alone
  // (config_keys.cpp).
  std::vector<std::string> unread() const;

  std::string json() const;  // config.json as it was read, for traces

  struct Impl;  // config_impl.h

 private:
  explicit Config(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace plumb
