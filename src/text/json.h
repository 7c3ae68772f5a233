// Reading tokenizer.json: values that know their place in the file, so that a wrong type is one
// sentence that names it.
#pragma once
#include <simdjson.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/result.h"

namespace plumb {

// A view into a parsed document: valid while the simdjson parser lives.
class Json {
 public:
  // `where` is the file's name and the path of the value, such as "tokenizer.json: model.vocab".
  Json(simdjson::dom::element element, std::string where)
      : element_(element), where_(std::move(where)) {}

  const std::string& where() const { return where_; }
  Error error(std::string_view problem) const;

  Result<std::string_view> string() const;
  Result<bool> boolean() const;
  Result<std::int64_t> integer(std::int64_t minimum, std::int64_t maximum) const;
  Result<double> number() const;  // finite
  Result<simdjson::dom::array> array() const;
  Result<simdjson::dom::object> object() const;

  Result<Json> at(std::string_view key) const;                   // required, not null
  Result<std::optional<Json>> find(std::string_view key) const;  // absent or null: none
  Json item(simdjson::dom::element element, std::size_t index) const;

  // Members of an object.
  Result<std::string_view> string_at(std::string_view key) const;
  Result<std::optional<std::string_view>> find_string(std::string_view key) const;
  Result<bool> flag(std::string_view key,
                    bool absent) const;  // `absent` where the key is absent or null

 private:
  simdjson::dom::element element_;
  std::string where_;
};

// The document in `text`; `parser` owns it.
Result<Json> parse_json(simdjson::dom::parser& parser, std::string_view text,
                        std::string_view where);

}  // namespace plumb
