// Checked access to JSON through simdjson's error codes (simdjson 3.0, DOM interface).
#include "text/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace plumb {
namespace {

constexpr std::size_t kMaxDocumentBytes = 1U << 30;

std::string_view type_name(simdjson::dom::element_type type) {
  using Type = simdjson::dom::element_type;
  switch (type) {
    case Type::ARRAY:
      return "an array";
    case Type::OBJECT:
      return "an object";
    case Type::INT64:
    case Type::UINT64:
      return "an integer";
    case Type::DOUBLE:
      return "a fraction";
    case Type::STRING:
      return "a string";
    case Type::BOOL:
      return "a boolean";
    case Type::NULL_VALUE:
      return "null";
  }
  return "unknown";
}

Error wrong_type(const Json& json, simdjson::dom::element element, std::string_view wanted) {
  return json.error(fmt::format("must be {}, not {}", wanted, type_name(element.type())));
}

}  // namespace

Error Json::error(std::string_view problem) const {
  return Error{ErrorCode::kCorrupt, fmt::format("{} {}", where_, problem)};
}

Result<std::string_view> Json::string() const {
  std::string_view value;
  if (element_.get(value) != simdjson::SUCCESS) return wrong_type(*this, element_, "a string");
  return value;
}

Result<bool> Json::boolean() const {
  bool value = false;
  if (element_.get(value) != simdjson::SUCCESS) return wrong_type(*this, element_, "a boolean");
  return value;
}

Result<std::int64_t> Json::integer(std::int64_t minimum, std::int64_t maximum) const {
  if (element_.is<std::uint64_t>() && !element_.is<std::int64_t>()) {
    return error(fmt::format("must be an integer of at most {}", maximum));
  }
  std::int64_t value = 0;
  if (element_.get(value) != simdjson::SUCCESS) return wrong_type(*this, element_, "an integer");
  if (value < minimum || value > maximum) {
    return error(fmt::format("is {}, outside {} to {}", value, minimum, maximum));
  }
  return value;
}

Result<double> Json::number() const {
  double value = 0;
  if (element_.get(value) != simdjson::SUCCESS) return wrong_type(*this, element_, "a number");
  if (!std::isfinite(value)) return error("must be finite");
  return value;
}

Result<simdjson::dom::array> Json::array() const {
  simdjson::dom::array value;
  if (element_.get(value) != simdjson::SUCCESS) return wrong_type(*this, element_, "an array");
  return value;
}

Result<simdjson::dom::object> Json::object() const {
  simdjson::dom::object value;
  if (element_.get(value) != simdjson::SUCCESS) return wrong_type(*this, element_, "an object");
  return value;
}

Result<std::optional<Json>> Json::find(std::string_view key) const {
  PLUMB_TRY(const simdjson::dom::object members, object());
  std::optional<Json> found;
  bool seen = false;
  for (const auto [name, value] : members) {
    if (name != key) continue;
    if (seen) return error(fmt::format("has the key \"{}\" twice", key));
    seen = true;
    if (!value.is_null())
      found = Json(value, fmt::format("{}{}{}", where_, where_.ends_with(':') ? " " : ".", key));
  }
  return found;
}

Result<Json> Json::at(std::string_view key) const {
  PLUMB_TRY(std::optional<Json> found, find(key));
  if (!found) return error(fmt::format("lacks \"{}\"", key));
  return *std::move(found);
}

Json Json::item(simdjson::dom::element element, std::size_t index) const {
  return {element, fmt::format("{}[{}]", where_, index)};
}

Result<std::string_view> Json::string_at(std::string_view key) const {
  PLUMB_TRY(const Json value, at(key));
  return value.string();
}

Result<std::optional<std::string_view>> Json::find_string(std::string_view key) const {
  PLUMB_TRY(const std::optional<Json> value, find(key));
  if (!value) return std::optional<std::string_view>();
  PLUMB_TRY(const std::string_view text, value->string());
  return std::optional<std::string_view>(text);
}

Result<bool> Json::flag(std::string_view key, bool absent) const {
  PLUMB_TRY(const std::optional<Json> value, find(key));
  if (!value) return absent;
  return value->boolean();
}

Result<Json> parse_json(simdjson::dom::parser& parser, std::string_view text,
                        std::string_view where) {
  if (text.size() > kMaxDocumentBytes) {
    return Error{ErrorCode::kCorrupt, fmt::format("{}: {} bytes are over the limit of {}", where,
                                                  text.size(), kMaxDocumentBytes)};
  }
  simdjson::dom::element root;
  const simdjson::error_code code = parser.parse(text.data(), text.size(), true).get(root);
  if (code != simdjson::SUCCESS) {
    return Error{ErrorCode::kCorrupt,
                 fmt::format("{}: not JSON: {}", where, simdjson::error_message(code))};
  }
  return Json(root, fmt::format("{}:", where));
}

}  // namespace plumb
