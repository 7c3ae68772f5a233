// Getters of Config, and the fields that every decoder has.
#include "io/config.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/checked.h"
#include "io/config_impl.h"
#include "io/config_keys.h"
#include "io/json_text.h"

namespace plumb {
namespace {

using Json = nlohmann::json;

constexpr std::int64_t kMaxSize = (std::int64_t{1} << 31) - 1;

std::string quoted(std::string_view key) {
  return "\"" + std::string(key) + "\"";
}

// How a message shows a value: its JSON, cut to a readable length.
std::string shown(const Json& value) {
  constexpr std::size_t kLimit = 40;
  if (value.is_structured()) return value.is_array() ? "a list" : "an object";
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > kLimit) text = text.substr(0, kLimit) + "…";
  return text;
}

template <class T, class F>
std::vector<T> list_of(Config::Impl& impl, std::string_view key, F element_of) {
  std::vector<T> values;
  const Json* value = impl.present(key);
  if (value == nullptr) return values;
  if (!value->is_array()) {
    impl.complain(quoted(key) + " is " + shown(*value) + ", not a list");
    return values;
  }
  for (const Json& element : *value) {
    const std::optional<T> item = element_of(element);
    if (!item) return {};
    values.push_back(*item);
  }
  return values;
}

std::optional<std::string> text_of(Config::Impl& impl, const Json& value, std::string_view key) {
  if (value.is_string()) return value.get<std::string>();
  impl.complain(quoted(key) + " is " + shown(value) + ", not a string");
  return std::nullopt;
}

// Stages are recorded for each layer before any file of weights could say that there are fewer; published models have
// at most 126.
constexpr std::int64_t kMaxLayers = 2048;

// A count that sizes something: 1 to `highest`. `fallback` takes the place of an absent or null key;
// nothing: it is required.
std::int64_t size_of(Config::Impl& impl, std::string_view key, std::optional<std::int64_t> fallback,
                     std::int64_t highest = kMaxSize) {
  const Json* value = impl.present(key);
  if (value == nullptr) {
    if (!fallback) impl.complain("has no " + quoted(key));
    return fallback.value_or(1);
  }
  const auto size = integer_of(impl, *value, key);
  if (!size) return 1;
  if (*size < 1 || *size > highest) {
    impl.complain(quoted(key) + " is " + std::to_string(*size) + ", outside 1 to " +
                  std::to_string(highest));
    return 1;
  }
  return *size;
}

void add_stop_ids(Config::Impl& impl, const Json* value, std::vector<std::int32_t>& ids) {
  if (value == nullptr || value->is_null()) return;
  const auto add = [&](const Json& element) {
    const auto id = integer_of(impl, element, "eos_token_id");
    if (!id) return;
    if (*id < 0 || *id > kMaxSize) {
      impl.complain("\"eos_token_id\" is " + std::to_string(*id) + ", outside 0 to " +
                    std::to_string(kMaxSize));
      return;
    }
    ids.push_back(static_cast<std::int32_t>(*id));
  };
  if (!value->is_array()) return add(*value);
  for (const Json& element : *value)
    add(element);
}

}  // namespace

const Json* Config::Impl::find(std::string_view key) {
  const std::string_view canonical = canonical_key(key);
  const auto found = values.find(canonical);
  if (found == values.end()) return nullptr;
  read.emplace(canonical);
  return &*found;
}

const Json* Config::Impl::present(std::string_view key) {
  const Json* value = find(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

std::optional<double> number_of(Config::Impl& impl, const Json& value, std::string_view key) {
  if (value.is_number() && std::isfinite(value.get<double>())) return value.get<double>();
  impl.complain(quoted(key) + " is " + shown(value) + ", not a number");
  return std::nullopt;
}

std::optional<std::int64_t> integer_of(Config::Impl& impl, const Json& value,
                                       std::string_view key) {
  if (value.is_number_unsigned()) {
    if (const auto number = narrow<std::int64_t>(value.get<std::uint64_t>())) return *number;
  } else if (value.is_number_integer()) {
    return value.get<std::int64_t>();
  }
  impl.complain(quoted(key) + " is " + shown(value) + ", not an integer");
  return std::nullopt;
}

Config::Config(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Config::Config(Config&&) noexcept = default;
Config& Config::operator=(Config&&) noexcept = default;
Config::~Config() = default;

std::string Config::model_type() const {
  return impl_->model_type;
}
std::string Config::text_model_type() const {
  return impl_->text_model_type;
}
std::string Config::where() const {
  return impl_->where;
}
std::string Config::json() const {
  return impl_->text;
}

Status Config::apply_defaults(std::string_view json_object) {
  PLUMB_TRY_STATUS(check_json(json_object, "defaults of " + impl_->model_type, 8));
  const Json defaults = Json::parse(json_object, nullptr, false);
  if (!defaults.is_object())
    return Error{ErrorCode::kInternal, "defaults of " + impl_->model_type + ": not an object"};
  for (const auto& [key, value] : defaults.items()) {
    const std::string canonical(canonical_key(key));
    if (impl_->values.contains(canonical)) continue;
    impl_->values[canonical] = value;
    impl_->defaults.insert(canonical);
  }
  vocab_size = size_of(*impl_, "vocab_size", std::nullopt);
  hidden_size = size_of(*impl_, "hidden_size", std::nullopt);
  num_hidden_layers = size_of(*impl_, "num_hidden_layers", std::nullopt, kMaxLayers);
  num_attention_heads = size_of(*impl_, "num_attention_heads", std::nullopt);
  num_key_value_heads = size_of(*impl_, "num_key_value_heads", num_attention_heads);
  head_dim =
      size_of(*impl_, "head_dim", std::max<std::int64_t>(1, hidden_size / num_attention_heads));
  max_position_embeddings = size_of(*impl_, "max_position_embeddings", std::nullopt);
  rms_norm_eps = number("rms_norm_eps");
  if (rms_norm_eps < 0) impl_->complain("\"rms_norm_eps\" is negative");
  const bool gated_name =
      has("hidden_activation");  // Gemma's name; its hidden_act is not what its code reads
  hidden_act = text(gated_name ? "hidden_activation" : "hidden_act", "");
  impl_->read.emplace("hidden_act");
  if (hidden_act.empty()) impl_->complain("has no \"hidden_act\"");
  tie_word_embeddings = flag("tie_word_embeddings", false);
  sliding_window = maybe_integer("sliding_window");
  layer_types = texts("layer_types");
  if (!layer_types.empty() && std::cmp_not_equal(layer_types.size(), num_hidden_layers)) {
    impl_->complain("\"layer_types\" has " + std::to_string(layer_types.size()) +
                    " entries, num_hidden_layers is " + std::to_string(num_hidden_layers));
  }
  read_rope(*this, *impl_);
  add_stop_ids(*impl_, impl_->find("eos_token_id"), stop_ids);
  // A complaint about them names their own file.
  const std::string where = std::exchange(impl_->where, impl_->generation_where);
  add_stop_ids(*impl_, &impl_->generation_eos, stop_ids);
  impl_->where = where;
  std::sort(stop_ids.begin(), stop_ids.end());
  stop_ids.erase(std::unique(stop_ids.begin(), stop_ids.end()), stop_ids.end());
  return {};
}

std::int64_t Config::integer(std::string_view key) const {
  const auto value = maybe_integer(key);
  if (!value) impl_->complain("has no " + quoted(key));
  return value.value_or(0);
}

std::int64_t Config::integer(std::string_view key, std::int64_t fallback) const {
  return maybe_integer(key).value_or(fallback);
}

double Config::number(std::string_view key) const {
  const auto value = maybe_number(key);
  if (!value) impl_->complain("has no " + quoted(key));
  return value.value_or(0);
}

double Config::number(std::string_view key, double fallback) const {
  return maybe_number(key).value_or(fallback);
}

bool Config::flag(std::string_view key, bool fallback) const {
  const Json* value = impl_->present(key);
  if (value == nullptr) return fallback;
  if (value->is_boolean()) return value->get<bool>();
  impl_->complain(quoted(key) + " is " + shown(*value) + ", neither true nor false");
  return fallback;
}

std::string Config::text(std::string_view key, std::string_view fallback) const {
  const Json* value = impl_->present(key);
  if (value == nullptr) return std::string(fallback);
  return text_of(*impl_, *value, key).value_or(std::string(fallback));
}

std::optional<std::int64_t> Config::maybe_integer(std::string_view key) const {
  const Json* value = impl_->present(key);
  return value == nullptr ? std::nullopt : integer_of(*impl_, *value, key);
}

std::optional<double> Config::maybe_number(std::string_view key) const {
  const Json* value = impl_->present(key);
  return value == nullptr ? std::nullopt : number_of(*impl_, *value, key);
}

std::optional<std::int64_t> Config::maybe_integer(std::string_view key,
                                                  std::string_view member) const {
  const Json* object = impl_->present(key);
  if (object == nullptr) return std::nullopt;
  if (!object->is_object()) {
    impl_->complain(quoted(key) + " is " + shown(*object) + ", not an object");
    return std::nullopt;
  }
  const auto found = object->find(member);
  if (found == object->end() || found->is_null()) return std::nullopt;
  return integer_of(*impl_, *found, std::string(key) + "." + std::string(member));
}

std::vector<std::int64_t> Config::integers(std::string_view key) const {
  return list_of<std::int64_t>(
      *impl_, key, [&](const Json& element) { return integer_of(*impl_, element, key); });
}

std::vector<std::string> Config::texts(std::string_view key) const {
  return list_of<std::string>(*impl_, key,
                              [&](const Json& element) { return text_of(*impl_, element, key); });
}

bool Config::has(std::string_view key) const {
  return impl_->present(key) != nullptr;
}

std::string Config::json_of(std::string_view key) const {
  const Json* value = impl_->find(key);
  return value == nullptr ? "" : value->dump(-1, ' ', false, Json::error_handler_t::replace);
}

void Config::mark_read(std::string_view key) const {
  impl_->read.emplace(canonical_key(key));
}

void Config::reject(std::string message) const {
  impl_->complain(message);
}

Status Config::status() const {
  if (!impl_->complaint) return {};
  return Error{ErrorCode::kCorrupt, *impl_->complaint};
}

std::vector<std::string> Config::unread() const {
  std::vector<std::string> keys = impl_->unread_rope;
  for (const auto& [key, value] : impl_->values.items()) {
    const bool off = value.is_null() || value == false;  // what is off changes nothing
    if (off || impl_->read.contains(key) || impl_->defaults.contains(key)) continue;
    if (!is_harmless_key(key)) keys.push_back(key);
  }
  return keys;
}

}  // namespace plumb
