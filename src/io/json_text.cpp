// A pass over JSON text that builds nothing: nlohmann-json's event interface.
#include "io/json_text.h"

#include <nlohmann/json.hpp>

namespace plumb {
namespace {

using Json = nlohmann::json;

class Checker : public nlohmann::json_sax<Json> {
 public:
  explicit Checker(int depth_limit) : depth_limit_(depth_limit) {}

  bool null() override { return true; }
  bool boolean(bool /*value*/) override { return true; }
  bool number_integer(number_integer_t /*value*/) override { return true; }
  bool number_unsigned(number_unsigned_t /*value*/) override { return true; }
  bool number_float(number_float_t /*value*/, const string_t& /*text*/) override { return true; }
  bool string(string_t& /*value*/) override { return true; }
  bool binary(binary_t& /*value*/) override { return true; }
  bool key(string_t& /*name*/) override { return true; }
  bool start_object(std::size_t /*elements*/) override { return enter(); }
  bool start_array(std::size_t /*elements*/) override { return enter(); }
  bool end_object() override { return leave(); }
  bool end_array() override { return leave(); }

  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& /*why*/) override {
    position_ = position;
    return false;
  }

  bool too_deep() const { return depth_ > depth_limit_; }
  std::size_t position() const { return position_; }

 private:
  bool enter() { return ++depth_ <= depth_limit_; }
  bool leave() {
    --depth_;
    return true;
  }

  int depth_limit_;
  int depth_ = 0;
  std::size_t position_ = 0;
};

}  // namespace

Status check_json(std::string_view json, std::string_view where, int depth_limit) {
  Checker checker(depth_limit);
  if (Json::sax_parse(json.begin(), json.end(), &checker)) return {};
  if (checker.too_deep()) {
    return Error{ErrorCode::kCorrupt, std::string(where) + ": nests deeper than " +
                                          std::to_string(depth_limit) + " levels of JSON"};
  }
  return Error{ErrorCode::kCorrupt, std::string(where) + ": is not valid JSON at byte " +
                                        std::to_string(checker.position())};
}

}  // namespace plumb
