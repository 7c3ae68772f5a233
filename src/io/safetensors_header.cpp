// Header of a .safetensors file, as strict as the reference reader: safetensors crate, tensor.rs,
// read_metadata and validate.
#include "io/safetensors_header.h"

#include <simdjson.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>

#include "core/checked.h"
#include "io/decode.h"

namespace plumb {
namespace {

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // tensor.rs, MAX_HEADER_SIZE
constexpr std::size_t kMaxDepth = 8;

using simdjson::dom::element;

struct Reader {
  std::span<const std::byte> file;
  std::string_view where;
  std::vector<StoredTensor> tensors;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> offsets;  // of each tensor, begin and end
  std::unordered_set<std::string> names;

  Error corrupt(const std::string& what) const {
    return {ErrorCode::kCorrupt, std::string(where) + ": " + what};
  }

  Error corrupt(std::string_view tensor, const std::string& what) const {
    return corrupt("tensor \"" + std::string(tensor) + "\" " + what);
  }
};

Result<std::string_view> header_text(const Reader& reader) {
  const std::uint64_t size = reader.file.size();
  if (size < kLengthBytes) {
    return reader.corrupt("has " + std::to_string(size) +
                          " bytes, a safetensors file has at least " +
                          std::to_string(kLengthBytes));
  }
  std::uint64_t length = 0;  // little-endian in the file and on every machine that this runs on
  std::memcpy(&length, reader.file.data(), kLengthBytes);
  if (length > kMaxHeaderBytes) {
    return reader.corrupt("its header claims " + std::to_string(length) + " bytes, the limit is " +
                          std::to_string(kMaxHeaderBytes));
  }
  if (length > size - kLengthBytes) {
    return reader.corrupt("its header claims " + std::to_string(length) + " bytes, the file has " +
                          std::to_string(size - kLengthBytes) + " after the length");
  }
  const auto bytes = reader.file.subspan(kLengthBytes, length);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.empty() || text.front() != '{')
    return reader.corrupt("its header does not start with {");
  return text;
}

Result<Shape> parse_shape(const Reader& reader, std::string_view name, const element& value) {
  simdjson::dom::array axes;
  if (value.get(axes) != simdjson::SUCCESS) {
    return reader.corrupt(name, "has a shape that is not a list");
  }
  Shape shape;
  for (const element axis : axes) {
    std::uint64_t size = 0;
    if (axis.get(size) != simdjson::SUCCESS) {
      return reader.corrupt(name, "has a shape with an axis that is not a count");
    }
    const auto narrowed = narrow<std::int64_t>(size);
    if (!narrowed)
      return reader.corrupt(name, "has an axis of " + std::to_string(size) + ", past 63 bits");
    shape.push_back(*narrowed);
  }
  return shape;
}

Result<std::pair<std::uint64_t, std::uint64_t>> parse_offsets(const Reader& reader,
                                                              std::string_view name,
                                                              const element& value) {
  simdjson::dom::array list;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  if (value.get(list) != simdjson::SUCCESS || list.size() != 2 ||
      list.at(0).get(begin) != simdjson::SUCCESS || list.at(1).get(end) != simdjson::SUCCESS) {
    return reader.corrupt(name, "has data_offsets that are not two counts");
  }
  return std::pair(begin, end);
}

// {"dtype": …, "shape": […], "data_offsets": [begin, end]}; other keys are ignored, as the
// reference does.
Status parse_tensor(Reader& reader, std::string_view name, const element& value) {
  simdjson::dom::object fields;
  if (value.get(fields) != simdjson::SUCCESS)
    return reader.corrupt(name, "is not described by an object");
  std::optional<DType> dtype;
  std::optional<Shape> shape;
  std::optional<std::pair<std::uint64_t, std::uint64_t>> offsets;
  for (const auto field : fields) {
    if ((field.key == "dtype" && dtype) || (field.key == "shape" && shape) ||
        (field.key == "data_offsets" && offsets)) {
      return reader.corrupt(name, "has the key \"" + std::string(field.key) + "\" twice");
    }
    if (field.key == "dtype") {
      std::string_view text;
      if (field.value.get(text) != simdjson::SUCCESS)
        return reader.corrupt(name, "has a dtype that is not a string");
      dtype = dtype_from_name(text);
      if (!dtype) {
        return Error{ErrorCode::kUnsupported,
                     std::string(reader.where) + ": tensor \"" + std::string(name) +
                         "\" has the unknown dtype \"" + std::string(text) + "\""};
      }
    } else if (field.key == "shape") {
      PLUMB_TRY(shape, parse_shape(reader, name, field.value));
    } else if (field.key == "data_offsets") {
      PLUMB_TRY(offsets, parse_offsets(reader, name, field.value));
    }
  }
  if (!dtype || !shape || !offsets)
    return reader.corrupt(name, "lacks one of dtype, shape and data_offsets");
  reader.tensors.push_back({std::string(name), *dtype, std::move(*shape), {}});
  reader.offsets.push_back(*offsets);
  return {};
}

Status parse_metadata(const Reader& reader, const element& value) {
  if (value.is_null()) return {};
  simdjson::dom::object fields;
  if (value.get(fields) != simdjson::SUCCESS)
    return reader.corrupt("its __metadata__ is not an object");
  for (const auto field : fields) {
    if (!field.value.is_string()) {
      return reader.corrupt("its __metadata__ key \"" + std::string(field.key) +
                            "\" is not a string");
    }
  }
  return {};
}

// Sorted by offset, the tensors must cover the bytes after the header exactly, each with the size
// that its shape needs.
Status place_tensors(Reader& reader, std::span<const std::byte> data) {
  std::vector<std::size_t> order(reader.tensors.size());
  for (std::size_t i = 0; i < order.size(); ++i)
    order[i] = i;
  std::sort(order.begin(), order.end(), [&reader](std::size_t a, std::size_t b) {
    return std::tie(reader.offsets[a], a) < std::tie(reader.offsets[b], b);
  });
  std::vector<StoredTensor> sorted;
  sorted.reserve(order.size());
  std::uint64_t expected = 0;
  for (const std::size_t i : order) {
    StoredTensor& tensor = reader.tensors[i];
    const auto [begin, end] = reader.offsets[i];
    if (begin != expected || end < begin) {
      return reader.corrupt(
          tensor.name, "lies at bytes " + std::to_string(begin) + " to " + std::to_string(end) +
                           ", where the data before it ends at " + std::to_string(expected));
    }
    const auto elements = element_count(tensor.shape);
    const auto bytes = elements ? stored_size(tensor.dtype, *elements) : std::nullopt;
    if (!bytes)
      return reader.corrupt(tensor.name,
                            "has the shape " + to_string(tensor.shape) + ", whose size overflows");
    if (*bytes != end - begin) {
      return reader.corrupt(tensor.name, "has " + std::to_string(end - begin) +
                                             " bytes, its shape " + to_string(tensor.shape) +
                                             " of " + std::string(to_string(tensor.dtype)) +
                                             " needs " + std::to_string(*bytes));
    }
    if (end > data.size()) {
      return reader.corrupt(tensor.name, "ends at byte " + std::to_string(end) +
                                             " of the data, which has " +
                                             std::to_string(data.size()));
    }
    tensor.bytes = data.subspan(begin, end - begin);
    sorted.push_back(std::move(tensor));
    expected = end;
  }
  if (expected != data.size()) {
    return reader.corrupt("its tensors end at byte " + std::to_string(expected) +
                          " of the data, which has " + std::to_string(data.size()));
  }
  reader.tensors = std::move(sorted);
  return {};
}

}  // namespace

Result<std::vector<StoredTensor>> parse_safetensors(std::span<const std::byte> file,
                                                    std::string_view where) {
  Reader reader{file, where, {}, {}, {}};
  PLUMB_TRY(const std::string_view text, header_text(reader));
  simdjson::dom::parser parser;
  element root;
  simdjson::dom::object entries;
  if (parser.allocate(std::max<std::size_t>(text.size(), 64), kMaxDepth) != simdjson::SUCCESS) {
    return Error{ErrorCode::kOutOfMemory, std::string(where) + ": no memory for its header of " +
                                              std::to_string(text.size()) + " bytes"};
  }
  const auto code = parser.parse(text.data(), text.size()).get(root);
  if (code == simdjson::DEPTH_ERROR) {
    return reader.corrupt("its header nests deeper than " + std::to_string(kMaxDepth) +
                          " levels of JSON");
  }
  if (code != simdjson::SUCCESS || root.get(entries) != simdjson::SUCCESS) {
    return reader.corrupt("its header is not a valid JSON object");
  }
  for (const auto entry : entries) {
    if (!reader.names.emplace(entry.key).second) {
      return reader.corrupt("its header has the key \"" + std::string(entry.key) + "\" twice");
    }
    PLUMB_TRY_STATUS(entry.key == "__metadata__" ? parse_metadata(reader, entry.value)
                                                 : parse_tensor(reader, entry.key, entry.value));
  }
  PLUMB_TRY_STATUS(place_tensors(reader, file.subspan(kLengthBytes + text.size())));
  return std::move(reader.tensors);
}

}  // namespace plumb
