// Keys of GGUF: gguf/constants.py (Keys), llama.cpp's conversion/base.py (set_gguf_parameters) and conversion/llama.py
// (generate_extra_tensors).
#include "io/gguf/metadata_write.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numbers>

#include "core/checked.h"
#include "io/gguf/names.h"

namespace plumb {
namespace {

constexpr std::uint32_t kQuantisationVersion = 2;  // ggml.h, GGML_QNT_VERSION

class Keys {
 public:
  Keys(const GgufConversion& conversion, GgufWriter& writer)
      : config_(conversion.config),
        writer_(writer),
        prefix_(std::string(conversion.conventions.architecture) + ".") {}

  void count(std::string_view key, std::optional<std::int64_t> value) {
    if (!value) return;
    if (*value < 0 || *value > std::numeric_limits<std::uint32_t>::max()) {
      config_.reject(std::to_string(*value) +
                     " does not fit the GGUF key \"" + std::string(key) + "\"");
      return;
    }
    writer_.set(prefix_ + std::string(key), static_cast<std::uint32_t>(*value));
  }

  void number(std::string_view key, std::optional<double> value) {
    if (value) writer_.set(prefix_ + std::string(key), static_cast<float>(*value));
  }

  void flags(std::string_view key, const std::vector<bool>& values) {
    writer_.set(prefix_ + std::string(key), values);
  }

  void text(std::string_view key, std::string_view value) {
    writer_.set(prefix_ + std::string(key), value);
  }

  // A key of config.json, alone or with another.
  void copy(const GgufKey& entry) {
    switch (entry.type) {
      case GgufKey::Type::kNumber:
        return number(entry.key, config_.maybe_number(entry.config));
      case GgufKey::Type::kFlag:
        if (config_.has(entry.config))
          writer_.set(prefix_ + std::string(entry.key), config_.flag(entry.config, false));
        return;
      case GgufKey::Type::kCounts: {
        const auto values = config_.integers(entry.config);
        return integers(entry.key, {values.begin(), values.end()});
      }
      case GgufKey::Type::kNumberOfLayers: {
        const std::vector<float> values(static_cast<std::size_t>(config_.num_hidden_layers),
                                        static_cast<float>(config_.number(entry.config)));
        writer_.set(prefix_ + std::string(entry.key), std::span<const float>(values));
        return;
      }
      case GgufKey::Type::kCount:
        break;
    }
    auto value = config_.maybe_integer(entry.config);
    if (value && !entry.plus.empty())
      value = checked_add(*value, config_.integer(entry.plus)).value_or(-1);
    if (value && !entry.times.empty())
      value = checked_mul(*value, config_.integer(entry.times)).value_or(-1);
    count(entry.key, value);
  }

  void integers(std::string_view key, const std::vector<std::int32_t>& values) {
    writer_.set(prefix_ + std::string(key), std::span<const std::int32_t>(values));
  }

 private:
  const Config& config_;
  GgufWriter& writer_;
  std::string prefix_;
};

// What multiplies cos and sin under longrope where the file does not say (conversion/phi.py, generate_extra_tensors).
double longrope_attention_factor(const Config& config, std::optional<double> original) {
  const double pretrained = original.value_or(0);
  const double longest = config.maybe_number("max_position_embeddings").value_or(0);
  const double factor = config.rope.factor.value_or(pretrained > 0 ? longest / pretrained : 1);
  return factor > 1 && pretrained > 1 ? std::sqrt(1 + std::log(factor) / std::log(pretrained)) : 1;
}

// Phi-3's tables mean longrope under its former names as well.
std::string_view type_of(const RopeParameters& rope) {
  return rope.long_factor.empty() ? std::string_view(rope.type) : "longrope";
}

// Which layers have a window, where they are listed (llama.cpp's load_swa_pattern).
void write_windows(const Config& config, Keys& keys) {
  std::vector<bool> slides;
  for (const std::string& type : config.layer_types)
    slides.push_back(type == "sliding_attention");
  if (!slides.empty()) keys.flags("attention.sliding_window_pattern", slides);
}

// Which layers do not attend, where they are listed.
void write_recurrent(const Config& config, Keys& keys) {
  std::vector<bool> recurrent;
  for (const std::string& type : config.layer_types)
    recurrent.push_back(type == "linear_attention");
  if (!recurrent.empty()) keys.flags("attention.recurrent_layers", recurrent);
}

// The channels of a head that each axis of a position rotates, padded to four axes (conversion/base.py). Of no matter where
// all axes have the same position, but llama.cpp loads no file without them.
void write_sections(const GgufConversion& conversion, Keys& keys) {
  std::vector<std::int32_t> sections = conversion.conventions.rope_sections;
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto object = nlohmann::json::parse(conversion.config.json_of(key), nullptr, false);
    if (!object.is_object() || !object.contains("mrope_section")) continue;
    const auto& said = object["mrope_section"];
    if (!said.is_array() || said.size() > sections.size()) continue;
    std::fill(sections.begin(), sections.end(), 0);
    for (std::size_t i = 0; i < said.size(); ++i) {
      if (said[i].is_number_integer()) sections[i] = said[i].get<std::int32_t>();
    }
  }
  keys.integers("rope.dimension_sections", sections);
}

void write_longrope(const Config& config, Keys& keys) {
  auto original = config.maybe_number("original_max_position_embeddings");
  if (!original) original = config.rope.original_max_position_embeddings;
  if (original)
    keys.count("rope.scaling.original_context_length", static_cast<std::int64_t>(*original));
  keys.number("rope.scaling.attn_factor",
              config.rope.attention_factor.value_or(longrope_attention_factor(config, original)));
}

Status write_rope(const GgufConversion& conversion, Keys& keys) {
  const Config& config = conversion.config;
  const RopeParameters& rope = config.rope;
  const std::string_view type = type_of(rope);
  keys.number("rope.freq_base", rope.theta);
  if (const auto local = config.rope_of_layer_type.find("sliding_attention");
      local != config.rope_of_layer_type.end()) {
    keys.number("rope.freq_base_swa", local->second.theta);
  }
  if (own_key(conversion.conventions, "rope.dimension_count") == nullptr) {
    keys.count("rope.dimension_count",
               static_cast<std::int64_t>(static_cast<double>(config.head_dim) *
                                         rope.partial_rotary_factor));
  }
  if (type == "default" || type == "llama3" || type == "divisors") return {};
  if (type != "linear" && type != "yarn" && type != "longrope") {
    return Error{ErrorCode::kUnsupported,
                 config.where() + ": the rope_type \"" + rope.type + "\" has no form in GGUF"};
  }
  keys.text("rope.scaling.type", type);
  if (type == "longrope") {
    // No factor: llama.cpp would divide the positions by it.
    write_longrope(config, keys);
    return {};
  }
  keys.number("rope.scaling.factor", rope.factor);
  if (type == "linear") return {};
  if (rope.original_max_position_embeddings) {
    keys.count("rope.scaling.original_context_length",
               static_cast<std::int64_t>(*rope.original_max_position_embeddings));
  }
  if (conversion.conventions.yarn_log_multiplier != 0 && rope.mscale_all_dim) {
    keys.number("rope.scaling.yarn_log_multiplier",
                conversion.conventions.yarn_log_multiplier *
                    static_cast<float>(*rope.mscale_all_dim));
  }
  keys.number("rope.scaling.yarn_attn_factor", rope.attention_factor);
  keys.number("rope.scaling.yarn_beta_fast", rope.beta_fast);
  keys.number("rope.scaling.yarn_beta_slow", rope.beta_slow);
  return {};
}

void write_tokenizer(const GgufTokenizer& tokenizer, GgufWriter& writer) {
  const auto id = [&](const char* key, const std::optional<std::int32_t>& value) {
    if (value) writer.set(key, static_cast<std::uint32_t>(*value));
  };
  const auto flag = [&](const char* key, const std::optional<bool>& value) {
    if (value) writer.set(key, *value);
  };
  writer.set("tokenizer.ggml.model", std::string_view(tokenizer.model));
  if (!tokenizer.pre.empty()) writer.set("tokenizer.ggml.pre", std::string_view(tokenizer.pre));
  writer.set("tokenizer.ggml.tokens", std::span<const std::string>(tokenizer.tokens));
  if (!tokenizer.scores.empty())
    writer.set("tokenizer.ggml.scores", std::span<const float>(tokenizer.scores));
  if (!tokenizer.token_types.empty()) {
    std::vector<std::int32_t> types;
    for (const GgufTokenType type : tokenizer.token_types)
      types.push_back(static_cast<std::int32_t>(type));
    writer.set("tokenizer.ggml.token_type", std::span<const std::int32_t>(types));
  }
  if (!tokenizer.merges.empty())
    writer.set("tokenizer.ggml.merges", std::span<const std::string>(tokenizer.merges));
  id("tokenizer.ggml.bos_token_id", tokenizer.bos_id);
  id("tokenizer.ggml.eos_token_id", tokenizer.eos_id);
  id("tokenizer.ggml.eot_token_id", tokenizer.eot_id);
  id("tokenizer.ggml.eom_token_id", tokenizer.eom_id);
  id("tokenizer.ggml.unknown_token_id", tokenizer.unk_id);
  id("tokenizer.ggml.seperator_token_id", tokenizer.sep_id);
  id("tokenizer.ggml.padding_token_id", tokenizer.pad_id);
  id("tokenizer.ggml.mask_token_id", tokenizer.mask_id);
  flag("tokenizer.ggml.add_bos_token", tokenizer.add_bos);
  flag("tokenizer.ggml.add_eos_token", tokenizer.add_eos);
  flag("tokenizer.ggml.add_sep_token", tokenizer.add_sep);
  flag("tokenizer.ggml.add_space_prefix", tokenizer.add_space_prefix);
  flag("tokenizer.ggml.remove_extra_whitespaces", tokenizer.remove_extra_whitespaces);
  if (!tokenizer.precompiled_charsmap.empty()) {
    writer.set("tokenizer.ggml.precompiled_charsmap",
               std::span<const std::byte>(tokenizer.precompiled_charsmap));
  }
  flag("tokenizer.ggml.normalizer.lowercase", tokenizer.lowercase);
  flag("tokenizer.ggml.normalizer.strip_accents", tokenizer.strip_accents);
  if (!tokenizer.huggingface_json.empty())
    writer.set("tokenizer.huggingface.json", std::string_view(tokenizer.huggingface_json));
  if (!tokenizer.chat_template.empty())
    writer.set("tokenizer.chat_template", std::string_view(tokenizer.chat_template));
}

// One divisor per pair of channels: 1 for fast ones, the factor for slow ones, a blend between.
std::vector<float> llama3_divisors(const Config& config, const RopeParameters& rope) {
  const double original = rope.original_max_position_embeddings.value_or(8192);
  const double factor = rope.factor.value_or(8);
  const double low = rope.low_freq_factor.value_or(1);
  const double high = rope.high_freq_factor.value_or(4);
  const auto dims =
      static_cast<std::int64_t>(static_cast<double>(config.head_dim) * rope.partial_rotary_factor);
  std::vector<float> divisors;
  for (std::int64_t i = 0; i < dims; i += 2) {
    const auto frequency = static_cast<float>(
        1 / std::pow(rope.theta, static_cast<float>(i) / static_cast<float>(dims)));
    const double wavelength = 2 * std::numbers::pi / static_cast<double>(frequency);
    if (wavelength < original / high) {
      divisors.push_back(1);
    } else if (wavelength > original / low) {
      divisors.push_back(static_cast<float>(factor));
    } else {
      const double smooth = (original / wavelength - low) / (high - low);
      divisors.push_back(static_cast<float>(1 / ((1 - smooth) / factor + smooth)));
    }
  }
  return divisors;
}

}  // namespace

std::vector<RopeTable> rope_tables(const Config& config) {
  const auto narrowed = [](const std::vector<double>& values) {
    return std::vector<float>(values.begin(), values.end());
  };
  const RopeParameters& rope = config.rope;
  if (rope.type == "llama3") return {{"rope_freqs.weight", llama3_divisors(config, rope)}};
  if (rope.type == "divisors") return {{"rope_freqs.weight", narrowed(rope.divisors)}};
  if (type_of(rope) == "longrope") {
    return {{"rope_factors_long.weight", narrowed(rope.long_factor)},
            {"rope_factors_short.weight", narrowed(rope.short_factor)}};
  }
  return {};
}

Status write_metadata(const GgufConversion& conversion, GgufWriter& writer) {
  const Config& config = conversion.config;
  writer.set("general.architecture", conversion.conventions.architecture);
  writer.set("general.type", "model");
  writer.set("general.name", std::string_view(conversion.name));
  writer.set("general.file_type", conversion.type.number);
  if (info(conversion.type.main).block_elements > 1)
    writer.set("general.quantization_version", kQuantisationVersion);
  Keys keys(conversion, writer);
  const auto is_own = [&](std::string_view key) {
    const auto& fixed = conversion.conventions.fixed;
    return own_key(conversion.conventions, key) != nullptr ||
           std::any_of(fixed.begin(), fixed.end(),
                       [&](const GgufFixed& entry) { return entry.key == key; });
  };
  for (const GgufKey& entry : gguf_shared_keys()) {
    if (!entry.config.starts_with("rope") && entry.config != "head_dim" &&
        entry.config != "num_key_value_heads" && entry.config != "num_nextn_predict_layers" &&
        !is_own(entry.key)) {
      keys.copy(entry);
    }
  }
  for (const auto& [key, value] : {std::pair("attention.head_count_kv", config.num_key_value_heads),
                                   std::pair("attention.key_length", config.head_dim),
                                   std::pair("attention.value_length", config.head_dim)}) {
    if (!is_own(key)) keys.count(key, value);
  }
  keys.count("vocab_size", config.vocab_size);
  for (const GgufFixed& entry : conversion.conventions.fixed)
    keys.count(entry.key, entry.value);
  for (const GgufKey& entry : conversion.conventions.keys)
    keys.copy(entry);
  if (conversion.conventions.window) write_windows(config, keys);
  if (conversion.conventions.recurrent) write_recurrent(config, keys);
  if (!conversion.conventions.rope_sections.empty()) write_sections(conversion, keys);
  PLUMB_TRY_STATUS(write_rope(conversion, keys));
  if (conversion.tokenizer) {
    write_tokenizer(*conversion.tokenizer, writer);
  } else {
    writer.set("tokenizer.ggml.model", "none");  // conversion/base.py, _set_vocab_none
  }
  return config.status();
}

}  // namespace plumb
