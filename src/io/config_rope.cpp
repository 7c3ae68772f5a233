// Rotary parameters from any of the forms in which they are written: transformers,
// modeling_rope_utils.py, convert_rope_params_to_dict and standardize_rope_params;
// Gemma3TextConfig.convert_rope_params_to_dict for rope_local_base_freq.
#include <array>

#include "io/config_impl.h"

namespace plumb {
namespace {

using Json = nlohmann::json;

// Keys of rope_parameters that only concern images, or nothing.
constexpr std::array<std::string_view, 6> kHarmless = {
    "mrope_section", "mrope_interleaved",       "type",
    "rope_type",     "max_position_embeddings", "finetuned"};

// One object of rotary parameters, flat.
class RopeReader {
 public:
  RopeReader(Config::Impl& impl, const Json& object) : impl_(impl), object_(object) {}

  std::optional<double> number(const char* key) {
    const Json* value = present(key);
    return value == nullptr ? std::nullopt
                            : number_of(impl_, *value, std::string("rope_parameters.") + key);
  }

  std::vector<double> numbers(const char* key) {
    std::vector<double> values;
    const Json* value = present(key);
    if (value == nullptr) return values;
    if (!value->is_array())
      impl_.complain(std::string("\"rope_parameters.") + key + "\" is not a list");
    for (const Json& element : *value) {
      values.push_back(
          number_of(impl_, element, std::string("rope_parameters.") + key).value_or(1));
    }
    return values;
  }

  std::string type() const {
    for (const char* key : {"rope_type", "type"}) {
      const auto found = object_.find(key);
      if (found == object_.end() || found->is_null()) continue;
      if (found->is_string()) return found->get<std::string>();
      impl_.complain(std::string("\"rope_parameters.") + key + "\" is not a string");
    }
    return "default";
  }

  bool flag(const char* key, bool fallback) {
    const Json* value = present(key);
    if (value == nullptr) return fallback;
    if (value->is_boolean()) return value->get<bool>();
    impl_.complain(std::string("\"rope_parameters.") + key + "\" is neither true nor false");
    return fallback;
  }

  void note_unread() {
    for (const auto& [key, value] : object_.items()) {
      bool known = value.is_null() || read_.contains(key);
      for (const std::string_view harmless : kHarmless)
        known = known || harmless == key;
      if (!known) impl_.unread_rope.push_back("rope_parameters." + key);
    }
  }

 private:
  const Json* present(const char* key) {
    const auto found = object_.find(key);
    if (found == object_.end()) return nullptr;
    read_.emplace(key);
    return found->is_null() ? nullptr : &*found;
  }

  Config::Impl& impl_;
  const Json& object_;
  std::set<std::string, std::less<>> read_;
};

// What the top level says where an object of parameters does not.
struct Outer {
  double theta;
  std::optional<double> partial_rotary_factor;
  std::optional<double> original_max_position_embeddings;  // wins over the object's own (Phi-3)
  double max_position_embeddings;
};

RopeParameters read_parameters(Config::Impl& impl, const Json& object, const Outer& outer,
                               bool nested) {
  RopeReader reader(impl, object);
  RopeParameters rope;
  rope.type = reader.type();
  rope.theta = reader.number("rope_theta").value_or(outer.theta);
  rope.partial_rotary_factor =
      reader.number("partial_rotary_factor").value_or(outer.partial_rotary_factor.value_or(1));
  rope.factor = reader.number("factor");
  rope.original_max_position_embeddings = reader.number("original_max_position_embeddings");
  if (rope.type == "llama3" || rope.type == "yarn" || rope.type == "longrope") {
    if (!nested && outer.original_max_position_embeddings) {
      rope.original_max_position_embeddings = outer.original_max_position_embeddings;
    } else if (!rope.original_max_position_embeddings) {
      rope.original_max_position_embeddings = outer.max_position_embeddings;
    }
  }
  rope.low_freq_factor = reader.number("low_freq_factor");
  rope.high_freq_factor = reader.number("high_freq_factor");
  rope.attention_factor = reader.number("attention_factor");
  rope.beta_fast = reader.number("beta_fast");
  rope.beta_slow = reader.number("beta_slow");
  rope.mscale = reader.number("mscale");
  rope.mscale_all_dim = reader.number("mscale_all_dim");
  // _compute_yarn_parameters looks for truncate beside the nested objects, where it never is.
  rope.truncate = reader.flag("truncate", true) || nested;
  rope.short_factor = reader.numbers("short_factor");
  rope.long_factor = reader.numbers("long_factor");
  rope.divisors = reader.numbers("divisors");
  reader.note_unread();
  if (!(rope.theta > 0))
    impl.complain("\"rope_theta\" is " + Json(rope.theta).dump() + ", not above 0");
  return rope;
}

Json object_or_empty(Config::Impl& impl, const char* key) {
  const Json* value = impl.present(key);
  if (value == nullptr) return Json::object();
  if (value->is_object()) return *value;
  impl.complain(std::string("\"") + key + "\" is not an object");
  return Json::object();
}

// Two bases, one for windowed layers: rope_scaling and rope_theta concern the full ones only. The
// "default" that Gemma3TextConfig and Olmo3Config begin with outranks a rope_scaling that names its
// kind by the older key "type".
Json split_by_layer_type(const Json& parameters, const Json& scaling, double theta,
                         double local_theta) {
  const Json plain = {{"rope_type", "default"}};
  Json nested = {{"full_attention", plain}, {"sliding_attention", plain}};
  for (const char* type : {"full_attention", "sliding_attention"}) {
    if (parameters.contains(type) && parameters[type].is_object()) nested[type] = parameters[type];
  }
  nested["full_attention"].update(scaling);
  if (!nested["full_attention"].contains("rope_theta"))
    nested["full_attention"]["rope_theta"] = theta;
  if (!nested["sliding_attention"].contains("rope_theta"))
    nested["sliding_attention"]["rope_theta"] = local_theta;
  return nested;
}

}  // namespace

void read_rope(Config& config, Config::Impl& impl) {
  constexpr double kDefaultTheta = 10000;  // RotaryEmbeddingConfigMixin.default_theta
  const Json scaling = object_or_empty(impl, "rope_scaling");
  Json parameters = object_or_empty(impl, "rope_parameters");
  const Outer outer{config.number("rope_theta", kDefaultTheta),
                    config.maybe_number("partial_rotary_factor"),
                    config.maybe_number("original_max_position_embeddings"),
                    static_cast<double>(config.max_position_embeddings)};
  if (const auto local_theta = config.maybe_number("rope_local_base_freq")) {
    parameters = split_by_layer_type(parameters, scaling, outer.theta, *local_theta);
  } else if (!scaling.empty()) {
    parameters = scaling;
  }
  bool nested = false;
  for (const auto& [key, value] : parameters.items())
    nested = nested || value.is_object();
  if (!nested) {
    config.rope = read_parameters(impl, parameters, outer, false);
    return;
  }
  for (const auto& [key, value] : parameters.items()) {
    if (value.is_null()) continue;  // layers without rotation
    if (value.is_object()) {
      config.rope_of_layer_type[key] = read_parameters(impl, value, outer, true);
    } else {
      impl.complain("\"rope_parameters\" mixes objects by layer type with the key \"" + key + "\"");
    }
  }
  const auto full = config.rope_of_layer_type.find("full_attention");
  config.rope = full != config.rope_of_layer_type.end() ? full->second : RopeParameters{};
}

}  // namespace plumb
