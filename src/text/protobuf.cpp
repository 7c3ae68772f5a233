// Protocol buffer fields; groups, which proto2 deprecates, are refused.
#include "text/protobuf.h"

#include <bit>
#include <cstring>

namespace plumb {

std::optional<float> ProtobufField::as_float() const {
  if (wire != Wire::kFixed32) return std::nullopt;
  return std::bit_cast<float>(static_cast<std::uint32_t>(value));
}

std::optional<bool> ProtobufField::as_bool() const {
  if (wire != Wire::kVarint) return std::nullopt;
  return value != 0;
}

std::optional<std::uint64_t> ProtobufReader::varint() {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(rest_.front());
    rest_.remove_prefix(1);
    value |= std::uint64_t{byte & 0x7FU} << shift;
    if (byte < 0x80) return value;
  }
  return std::nullopt;
}

std::optional<std::uint64_t> ProtobufReader::fixed(std::size_t size) {
  if (rest_.size() < size) return std::nullopt;
  std::uint64_t value = 0;
  std::memcpy(&value, rest_.data(), size);
  rest_.remove_prefix(size);
  return value;
}

std::optional<ProtobufField> ProtobufReader::next() {
  using Wire = ProtobufField::Wire;
  if (rest_.empty() || failed_) return std::nullopt;
  failed_ = true;  // until the field is whole
  const std::optional<std::uint64_t> tag = varint();
  if (!tag) return std::nullopt;
  ProtobufField field{*tag >> 3, static_cast<Wire>(*tag & 7), 0, {}};
  std::optional<std::uint64_t> value;
  switch (field.wire) {
    case Wire::kVarint:
      value = varint();
      break;
    case Wire::kFixed64:
      value = fixed(8);
      break;
    case Wire::kFixed32:
      value = fixed(4);
      break;
    case Wire::kBytes:
      value = varint();
      break;
  }
  if (!value) return std::nullopt;
  field.value = *value;
  if (field.wire == Wire::kBytes) {
    if (*value > rest_.size()) return std::nullopt;
    field.bytes = rest_.substr(0, *value);
    rest_.remove_prefix(*value);
  }
  failed_ = false;
  return field;
}

}  // namespace plumb
