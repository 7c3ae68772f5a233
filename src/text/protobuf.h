// Reading protocol buffers without their schema (protobuf.dev, "Encoding"): one field after the other, inside its bytes.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

namespace plumb {

struct ProtobufField {
  enum class Wire : unsigned char { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

  std::uint64_t number;
  Wire wire;
  std::uint64_t value;     // kVarint, kFixed64, kFixed32
  std::string_view bytes;  // kBytes

  // The value of a field of that type; none when the wire type is another.
  std::optional<float> as_float() const;
  std::optional<bool> as_bool() const;
};

class ProtobufReader {
 public:
  explicit ProtobufReader(std::string_view message) : rest_(message) {}

  // The next field; none at the end, or where the bytes are no field: failed() tells which.
  std::optional<ProtobufField> next();
  bool failed() const { return failed_; }

 private:
  std::optional<std::uint64_t> varint();
  std::optional<std::uint64_t> fixed(std::size_t size);

  std::string_view rest_;
  bool failed_ = false;
};

}  // namespace plumb
