// GGUF metadata as a config.json: gguf/constants.py (Keys) and set_gguf_parameters in llama.cpp's conversion/base.py.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/checked.h"
#include "io/decode.h"
#include "io/gguf/names.h"

namespace plumb {
namespace {

using Json = nlohmann::json;

constexpr std::int64_t kMaxRopeTable =
    1 << 16;  // entries of rope_freqs; heads have a few hundred dims

constexpr GgufKey kShared[] = {
    {"block_count", "num_hidden_layers"},
    {"context_length", "max_position_embeddings"},
    {"embedding_length", "hidden_size"},
    {"feed_forward_length", "intermediate_size"},
    {"attention.head_count", "num_attention_heads"},
    {"attention.head_count_kv", "num_key_value_heads"},
    {"attention.key_length", "head_dim"},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", GgufKey::Type::kNumber},
    {"attention.sliding_window", "sliding_window"},
    {"attn_logit_softcapping", "attn_logit_softcapping", GgufKey::Type::kNumber},
    {"final_logit_softcapping", "final_logit_softcapping", GgufKey::Type::kNumber},
    {"nextn_predict_layers", "num_nextn_predict_layers"},
    {"expert_count", "num_experts"},
    {"expert_used_count", "num_experts_per_tok"},
    {"expert_feed_forward_length", "moe_intermediate_size"},
    {"expert_shared_feed_forward_length", "shared_expert_intermediate_size"},
    {"rope.freq_base", "rope_theta", GgufKey::Type::kNumber},
    {"rope.freq_base_swa", "rope_local_base_freq", GgufKey::Type::kNumber},
};

// Of rope_parameters.
constexpr GgufKey kRope[] = {
    {"rope.scaling.factor", "factor"},
    {"rope.scaling.original_context_length", "original_max_position_embeddings"},
    {"rope.scaling.attn_factor", "attention_factor"},
    {"rope.scaling.yarn_attn_factor", "attention_factor"},
    {"rope.scaling.yarn_beta_fast", "beta_fast"},
    {"rope.scaling.yarn_beta_slow", "beta_slow"},
};

// Known, and read below or of no effect on the computation.
constexpr std::string_view kElsewhere[] = {
    "vocab_size",         "attention.value_length",  "rope.dimension_count",
    "rope.scaling.type",  "rope.dimension_sections", "rope.scaling.finetuned",
    "tensor_data_layout", "attention.causal",
};

class Translator {
 public:
  Translator(const GgufFile& file, const GgufConventions& conventions)
      : file_(file),
        conventions_(conventions),
        prefix_(std::string(conventions.architecture) + ".") {}

  Result<Json> translate() {
    PLUMB_TRY_STATUS(check_required());
    for (const auto& [key, value] : file_.metadata()) {
      if (!key.starts_with(prefix_)) continue;
      PLUMB_TRY_STATUS(add(key.substr(prefix_.size()), value));
    }
    PLUMB_TRY_STATUS(resolve_combined());
    if (integer("nextn_predict_layers").value_or(0) != 0) {
      if (layer_count() < 1 || layer_count() > integer("block_count").value_or(0))
        return corrupt("nextn_predict_layers", "is no part of block_count");
      config_["num_hidden_layers"] = layer_count();
    }
    PLUMB_TRY_STATUS(add_rope());
    PLUMB_TRY_STATUS(add_from_tensors());
    add_scale();
    add_stop_ids();
    if (!config_.contains("num_key_value_heads") && config_.contains("num_attention_heads")) {
      config_["num_key_value_heads"] = config_["num_attention_heads"];
    }
    config_.merge_patch(Json::parse(conventions_.constants, nullptr, false));
    const Json absent = Json::parse(conventions_.absent, nullptr, false);
    for (const auto& [key, value] : absent.items()) {
      if (!config_.contains(key)) config_[key] = value;
    }
    return config_;
  }

 private:
  Error corrupt(std::string_view key, const std::string& what) const {
    return {ErrorCode::kCorrupt,
            file_.where() + ": the key \"" + prefix_ + std::string(key) + "\" " + what};
  }

  // A scalar, or an array whose elements are all equal (llama.cpp stores some values per layer).
  Result<Json> scalar(std::string_view key, const GgufValue& value) const {
    Json first;
    for (std::size_t i = 0; i < value.size(); ++i) {
      Json element;
      if (const auto integer = value.integer(i)) {
        element = *integer;
      } else if (const auto number = value.number(i)) {
        element = *number;
      } else if (const auto flag = value.flag(i)) {
        element = *flag;
      } else if (const auto text = value.text(i)) {
        element = std::string(*text);
      }
      if (i > 0 && element != first)
        return corrupt(key, "differs between layers, which is not supported");
      first = std::move(element);
    }
    if (first.is_null()) return corrupt(key, "has no value that fits");
    return first;
  }

  // One flag per layer, or n where each n-th layer has no window (llama.cpp's load_swa_pattern, set_swa_pattern).
  Status add_windows(std::string_view key, const GgufValue& value) {
    const std::int64_t layers = layer_count();
    Json types = Json::array();
    for (std::int64_t i = 0; i < layers && std::cmp_less(i, file_.tensors().size()); ++i) {
      bool slides = false;
      if (value.is_array) {
        const auto index = static_cast<std::size_t>(i);
        const auto flag = index < value.size() ? value.flag(index) : std::nullopt;
        const auto number = index < value.size() ? value.integer(index) : std::nullopt;
        if (!flag && !number) return corrupt(key, "has no flag for the layer " + std::to_string(i));
        slides = flag ? *flag : *number != 0;
      } else {
        const auto period = value.integer();
        if (!period || *period < 0) return corrupt(key, "is no count");
        slides = *period == 0 || i % *period < *period - 1;
      }
      types.push_back(slides ? "sliding_attention" : "full_attention");
    }
    config_["layer_types"] = std::move(types);
    return {};
  }

  // Keys without which the file means something else.
  Status check_required() const {
    for (const GgufFixed& fixed : conventions_.fixed) {
      const GgufValue* value = file_.value(prefix_ + std::string(fixed.key));
      if (!fixed.required || (value != nullptr && value->integer() == fixed.value)) continue;
      return corrupt(fixed.key, "is " + (value == nullptr || !value->integer()
                                             ? std::string("absent")
                                             : std::to_string(*value->integer())) +
                                    ", and only " + std::to_string(fixed.value) + " is known");
    }
    for (const std::string_view key : conventions_.required) {
      if (file_.value(prefix_ + std::string(key)) == nullptr)
        return corrupt(key, "is absent, and files of the form without it are not supported");
    }
    return {};
  }

  // One flag per layer, set where it does not attend (llama.cpp, LLM_KV_ATTENTION_RECURRENT_LAYERS).
  Status add_recurrent(std::string_view key, const GgufValue& value) {
    const std::int64_t layers = layer_count();
    if (!value.is_array || std::cmp_less(value.size(), layers)) {
      return corrupt(key, "has " + std::to_string(value.size()) + " flags for " +
                              std::to_string(layers) + " layers");
    }
    Json types = Json::array();
    for (std::size_t i = 0; std::cmp_less(i, layers); ++i) {
      const auto flag = value.flag(i);
      if (!flag) return corrupt(key, "has no flag for the layer " + std::to_string(i));
      types.push_back(*flag ? "linear_attention" : "full_attention");
    }
    config_["layer_types"] = std::move(types);
    return {};
  }

  Status put_counts(Json& object, std::string_view key, std::string_view name,
                    const GgufValue& value) const {
    Json counts = Json::array();
    for (std::size_t i = 0; i < value.size(); ++i) {
      const auto count = value.integer(i);
      if (!count || *count < 0) return corrupt(key, "has an element that is no count");
      counts.push_back(*count);
    }
    object[std::string(name)] = std::move(counts);
    return {};
  }

  // As llama.cpp takes the multiplier away again, in float32 (TAG_DEEPSEEK2_YARN_LOG_MUL_FIX).
  Status add_yarn_multiplier(std::string_view key, const GgufValue& value) {
    const auto number = value.number();
    if (!number || value.is_array) return corrupt(key, "is no number");
    rope_["mscale_all_dim"] = static_cast<float>(*number) / conventions_.yarn_log_multiplier;
    rope_["mscale"] = rope_["mscale_all_dim"];
    return {};
  }

  // Keys whose value is another's plus or times what they say.
  Status resolve_combined() {
    for (const GgufKey& entry : conventions_.keys) {
      if (entry.derived || (entry.plus.empty() && entry.times.empty())) continue;
      const auto value = integer(std::string(entry.key).c_str());
      const auto other = config_.find(entry.plus.empty() ? entry.times : entry.plus);
      if (!value || other == config_.end() || !other->is_number_integer()) continue;
      const auto known = other->get<std::int64_t>();
      const bool is_sum = !entry.plus.empty();
      if (known < 1 || *value < 1 || (is_sum ? *value <= known : *value % known != 0)) {
        return corrupt(entry.key, "is " + std::to_string(*value) + ", which is not " +
                                      (is_sum ? "above " : "a multiple of ") +
                                      std::to_string(known));
      }
      config_[std::string(entry.config)] = is_sum ? *value - known : *value / known;
    }
    return {};
  }

  bool owns(std::string_view key) const { return own_key(conventions_, key) != nullptr; }

  Status add(std::string_view key, const GgufValue& value) {
    for (const GgufFixed& fixed : conventions_.fixed) {
      if (key == fixed.key) return {};
    }
    if (const GgufKey* entry = own_key(conventions_, key)) {
      if (entry->derived || !entry->plus.empty() || !entry->times.empty()) return {};
      return put(config_, *entry, value);
    }
    if (conventions_.recurrent && key == "attention.recurrent_layers")
      return add_recurrent(key, value);
    if (!conventions_.rope_sections.empty() && key == "rope.dimension_sections")
      return put_counts(rope_, key, "mrope_section", value);
    if (conventions_.yarn_log_multiplier != 0 && key == "rope.scaling.yarn_log_multiplier")
      return add_yarn_multiplier(key, value);
    if (!conventions_.refused_key.empty() && key == conventions_.refused_key)
      return corrupt(key, "is given, and files with it are not supported");
    if (key == "attention.sliding_window_pattern") return add_windows(key, value);
    // 0 stands for none (conversion/phi.py).
    if (key == "attention.sliding_window" && !value.is_array && value.integer() == 0) return {};
    for (const std::string_view elsewhere : kElsewhere) {
      if (key == elsewhere) return {};
    }
    for (const GgufKey& entry : kShared) {
      if (key == entry.key) return put(config_, entry, value);
    }
    for (const GgufKey& entry : kRope) {
      if (key == entry.key) return put(rope_, entry, value);
    }
    config_[prefix_ + std::string(key)] = nullptr;  // listed by Config::unread()
    return {};
  }

  Status put(Json& object, const GgufKey& entry, const GgufValue& value) const {
    if (entry.type == GgufKey::Type::kCounts) return put_counts(object, entry.key, entry.config, value);
    PLUMB_TRY(Json element, scalar(entry.key, value));
    object[std::string(entry.config)] = std::move(element);
    return {};
  }

  std::optional<std::int64_t> integer(const char* key) const {
    const GgufValue* value = file_.value(prefix_ + key);
    return value == nullptr ? std::nullopt : value->integer();
  }

  // Without the blocks that predict further tokens, which come last.
  std::int64_t layer_count() const {
    return integer("block_count").value_or(0) - integer("nextn_predict_layers").value_or(0);
  }

  // 0 where the file does not say.
  std::int64_t head_width() const {
    if (const auto key_length = integer("attention.key_length")) return *key_length;
    const std::int64_t heads = integer("attention.head_count").value_or(0);
    return heads > 0 ? integer("embedding_length").value_or(0) / heads : 0;
  }

  Status add_rope() {
    const auto key_length = integer("attention.key_length");
    const auto value_length = integer("attention.value_length");
    if (key_length && value_length && *key_length != *value_length &&
        !owns("attention.value_length")) {
      return corrupt("attention.value_length", "is " + std::to_string(*value_length) +
                                                   ", key_length " + std::to_string(*key_length) +
                                                   ": heads of two widths are not supported");
    }
    const std::int64_t head = owns("attention.key_length") ? 0 : head_width();
    const auto rotated = integer("rope.dimension_count");
    if (head > 0) config_["head_dim"] = head;  // llama.cpp's fallback, not the class's default
    if (head > 0 && rotated) {  // all of the head as well: the class's default may be a part
      rope_["partial_rotary_factor"] = static_cast<double>(*rotated) / static_cast<double>(head);
    }
    if (const GgufValue* type = file_.value(prefix_ + "rope.scaling.type")) {
      const auto text = type->text();
      if (!text) return corrupt("rope.scaling.type", "is not a string");
      if (*text != "none") rope_["rope_type"] = std::string(*text);
    }
    PLUMB_TRY_STATUS(add_table("rope_freqs.weight", "divisors"));
    PLUMB_TRY_STATUS(add_table("rope_factors_long.weight", "long_factor"));
    PLUMB_TRY_STATUS(add_table("rope_factors_short.weight", "short_factor"));
    if (rope_.contains("divisors")) {
      if (rope_.contains("rope_type")) {
        return corrupt("rope.scaling.type", "is given beside the tensor \"rope_freqs.weight\"");
      }
      rope_["rope_type"] = "divisors";
    }
    if (rope_.contains("long_factor")) add_longrope();
    if (!rope_.empty()) config_["rope_scaling"] = rope_;
    if (conventions_.window_shares_base && !config_.contains("rope_local_base_freq") &&
        config_.contains("rope_theta")) {
      config_["rope_local_base_freq"] = config_["rope_theta"];
    }
    return {};
  }

  // The tables alone say what it is; Phi-3 reads the length of its pre-training outside the object.
  void add_longrope() {
    rope_["rope_type"] = "longrope";
    if (const auto original = integer("rope.scaling.original_context_length"))
      config_["original_max_position_embeddings"] = *original;
  }

  void add_scale() {
    if (conventions_.scale_from_width == 0 || config_.contains("query_pre_attn_scalar")) return;
    const std::int64_t heads = integer("attention.head_count").value_or(0);
    const bool is_wide = integer("block_count") == conventions_.scale_from_width && heads > 0;
    config_["query_pre_attn_scalar"] =
        is_wide ? integer("embedding_length").value_or(0) / heads : head_width();
  }

  Status add_table(const char* tensor, const char* key) {
    const StoredTensor* table = file_.find(tensor);
    if (table == nullptr) return {};
    const std::int64_t count = element_count(table->shape).value_or(0);
    if (table->shape.size() != 1 || count > kMaxRopeTable) {
      return Error{ErrorCode::kCorrupt, file_.where() + ": the tensor \"" + tensor +
                                            "\" has the shape " + to_string(table->shape) +
                                            ", not one axis of at most " +
                                            std::to_string(kMaxRopeTable)};
    }
    std::vector<double> values(static_cast<std::size_t>(count));
    decode(table->dtype, table->bytes, values);
    for (const double value : values) {
      if (!std::isfinite(value) || value == 0) {
        return Error{ErrorCode::kCorrupt, file_.where() + ": the tensor \"" + tensor +
                                              "\" holds a value that is not finite, or 0"};
      }
    }
    rope_[key] = values;
    return {};
  }

  Status add_from_tensors() {
    const StoredTensor* embedding = file_.find("token_embd.weight");
    if (embedding != nullptr && embedding->shape.size() == 2)
      config_["vocab_size"] = embedding->shape[0];
    config_["tie_word_embeddings"] = file_.find("output.weight") == nullptr;
    config_["attention_bias"] = file_.find("blk.0.attn_q.bias") != nullptr;
    config_["mlp_bias"] = file_.find("blk.0.ffn_up.bias") != nullptr;
    if (!conventions_.experts) return {};
    Json dense = Json::array();
    for (std::int64_t i = 0; i < layer_count() && std::cmp_less(i, file_.tensors().size()); ++i) {
      if (file_.find("blk." + std::to_string(i) + ".ffn_gate_inp.weight") == nullptr)
        dense.push_back(i);
    }
    config_["mlp_only_layers"] = std::move(dense);
    return {};
  }

  // llama.cpp ends a turn at any of these (llama-vocab.cpp, special_eog_ids).
  void add_stop_ids() {
    Json ids = Json::array();
    for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                            "tokenizer.ggml.eom_token_id"}) {
      const GgufValue* value = file_.value(key);
      if (value == nullptr) continue;
      if (const auto id = value->integer()) ids.push_back(*id);
    }
    config_["eos_token_id"] = std::move(ids);
  }

  const GgufFile& file_;
  const GgufConventions& conventions_;
  std::string prefix_;
  Json config_ = Json::object();
  Json rope_ = Json::object();
};

}  // namespace

std::span<const GgufKey> gguf_shared_keys() {
  return kShared;
}

const GgufKey* own_key(const GgufConventions& conventions, std::string_view key) {
  const auto found = std::find_if(conventions.keys.begin(), conventions.keys.end(),
                                  [&](const GgufKey& entry) { return entry.key == key; });
  return found == conventions.keys.end() ? nullptr : &*found;
}

Result<GgufKind> gguf_kind(const GgufFile& file) {
  const GgufValue* architecture = file.value("general.architecture");
  const auto text =
      architecture == nullptr || architecture->is_array ? std::nullopt : architecture->text();
  if (!text) {
    return Error{ErrorCode::kCorrupt,
                 file.where() + ": has no key \"general.architecture\" that is a string"};
  }
  const auto is_positive = [&](const char* key) {
    const GgufValue* value = file.value(std::string(*text) + key);
    return value != nullptr && value->integer().value_or(0) > 0;
  };
  return GgufKind{std::string(*text), is_positive(".expert_count"),
                  is_positive(".attention.sliding_window")};
}

Result<Config> config_from_gguf(const GgufFile& file, std::string_view model_type,
                                const GgufConventions& conventions) {
  PLUMB_TRY(Json config, Translator(file, conventions).translate());
  config["model_type"] = std::string(model_type);
  // Keys that say what tensors are there; an architecture that has no such choice does not read them.
  auto parsed =
      Config::parse(config.dump(-1, ' ', false, Json::error_handler_t::replace), file.where());
  if (parsed.ok()) {
    for (const char* key : {"attention_bias", "mlp_bias", "mlp_only_layers", "tie_word_embeddings"})
      parsed.value().mark_read(key);
  }
  return parsed;
}

}  // namespace plumb
