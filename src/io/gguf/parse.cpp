// The bytes of one GGUF file: ggml's docs/gguf.md. Limits and checks: counts never lead to an allocation that the remaining
// bytes do not cover.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <unordered_set>
#include <utility>

#include "core/checked.h"
#include "io/decode.h"
#include "io/gguf/reader.h"

namespace plumb {
namespace {

constexpr std::uint64_t kMaxTensors = 1'000'000;
constexpr std::uint64_t kMaxKeys = 100'000;
constexpr std::uint64_t kMaxStringBytes = std::uint64_t{64} << 20;
constexpr std::uint64_t kMaxNameBytes = 256;
constexpr std::uint32_t kMaxAxes = 4;
constexpr std::uint64_t kDefaultAlignment = 32;

// GGUF numbers of tensor types (ggml.h, enum ggml_type).
constexpr std::pair<std::uint32_t, DType> kTensorTypes[] = {
    {0, DType::kF32},      {1, DType::kF16},     {2, DType::kQ4_0},     {3, DType::kQ4_1},
    {6, DType::kQ5_0},     {7, DType::kQ5_1},    {8, DType::kQ8_0},     {10, DType::kQ2_K},
    {11, DType::kQ3_K},    {12, DType::kQ4_K},   {13, DType::kQ5_K},    {14, DType::kQ6_K},
    {16, DType::kIQ2_XXS}, {17, DType::kIQ2_XS}, {18, DType::kIQ3_XXS}, {19, DType::kIQ1_S},
    {20, DType::kIQ4_NL},  {21, DType::kIQ3_S},  {22, DType::kIQ2_S},   {23, DType::kIQ4_XS},
    {24, DType::kI8},      {25, DType::kI16},    {26, DType::kI32},     {27, DType::kI64},
    {28, DType::kF64},     {29, DType::kIQ1_M},  {30, DType::kBF16},    {34, DType::kTQ1_0},
    {35, DType::kTQ2_0},   {39, DType::kMXFP4},  {40, DType::kNVFP4},
};

// Reads forward; the first read past the end sticks and yields zeros from then on.
class ByteReader {
 public:
  ByteReader(std::span<const std::byte> file, std::string_view where)
      : file_(file), where_(where) {}

  template <class T>
  T number() {
    T value{};
    const auto bytes = take(sizeof(T));
    if (bytes.size() == sizeof(T)) std::memcpy(&value, bytes.data(), sizeof(T));
    return value;
  }

  std::span<const std::byte> take(std::uint64_t size) {
    if (size > remaining()) failed_ = true;
    if (failed_) return {};
    const auto bytes = file_.subspan(position_, size);
    position_ += size;
    return bytes;
  }

  // A length and that many bytes, at most `limit`.
  Result<std::string_view> text(std::uint64_t limit, const std::string& what) {
    const auto length = number<std::uint64_t>();
    if (failed_) return ends_inside(what);
    if (length > limit) {
      return corrupt(what + " has " + std::to_string(length) + " bytes, the limit is " +
                     std::to_string(limit));
    }
    const auto bytes = take(length);
    if (failed_) return ends_inside(what);
    return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

  Error ends_inside(const std::string& what) const {
    return corrupt("the file ends inside " + what + ", after " + std::to_string(file_.size()) +
                   " bytes");
  }

  Error corrupt(const std::string& what) const {
    return {ErrorCode::kCorrupt, std::string(where_) + ": " + what};
  }

  std::uint64_t remaining() const { return file_.size() - position_; }
  std::uint64_t position() const { return position_; }
  bool failed() const { return failed_; }

 private:
  std::span<const std::byte> file_;
  std::string_view where_;
  std::uint64_t position_ = 0;
  bool failed_ = false;
};

std::string quoted(std::string_view what, std::string_view name) {
  return std::string(what) + " \"" + std::string(name) + "\"";
}

Result<GgufValue> read_array(ByteReader& reader, const std::string& key) {
  GgufValue value{static_cast<GgufType>(reader.number<std::uint32_t>()), true, {}, {}};
  const auto count = reader.number<std::uint64_t>();
  if (reader.failed()) return reader.ends_inside(key);
  if (const auto size = scalar_size(value.type)) {
    const auto bytes = checked_mul(*size, count);
    if (!bytes || *bytes > reader.remaining()) {
      return reader.corrupt(key + " claims " + std::to_string(count) + " elements of " +
                            std::string(to_string(value.type)) + ", " +
                            std::to_string(reader.remaining()) + " bytes remain");
    }
    value.bytes = reader.take(*bytes);
    return value;
  }
  if (value.type != GgufType::kString) {
    return reader.corrupt(
        key + " is an array of " +
        (value.type == GgufType::kArray
             ? "arrays, which nest at most once"
             : "the unknown type " + std::to_string(static_cast<std::uint32_t>(value.type))));
  }
  if (count > reader.remaining() / sizeof(std::uint64_t)) {  // each string has its length at least
    return reader.corrupt(key + " claims " + std::to_string(count) + " strings, " +
                          std::to_string(reader.remaining()) + " bytes remain");
  }
  value.texts.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    PLUMB_TRY(const std::string_view text, reader.text(kMaxStringBytes, "a string of " + key));
    value.texts.push_back(text);
  }
  return value;
}

Result<GgufValue> read_value(ByteReader& reader, const std::string& key) {
  const auto type = static_cast<GgufType>(reader.number<std::uint32_t>());
  if (reader.failed()) return reader.ends_inside(key);
  if (type == GgufType::kArray) return read_array(reader, key);
  GgufValue value{type, false, {}, {}};
  if (type == GgufType::kString) {
    PLUMB_TRY(const std::string_view text, reader.text(kMaxStringBytes, key));
    value.texts.push_back(text);
    return value;
  }
  const auto size = scalar_size(type);
  if (!size)
    return reader.corrupt(key + " has the unknown type " +
                          std::to_string(static_cast<std::uint32_t>(type)));
  value.bytes = reader.take(*size);
  if (reader.failed()) return reader.ends_inside(key);
  return value;
}

Status read_metadata(ByteReader& reader, std::uint64_t count, GgufContents& contents) {
  std::unordered_set<std::string_view> names;
  for (std::uint64_t i = 0; i < count; ++i) {
    PLUMB_TRY(const std::string_view name,
              reader.text(kMaxNameBytes, "the name of key " + std::to_string(i)));
    const std::string key = quoted("the key", name);
    if (!names.insert(name).second) return reader.corrupt("has " + key + " twice");
    PLUMB_TRY(GgufValue value, read_value(reader, key));
    contents.metadata.emplace_back(name, std::move(value));
  }
  return {};
}

struct TensorInfo {
  StoredTensor tensor;
  std::uint64_t offset;  // from the start of the data
  std::uint64_t bytes;
};

Result<TensorInfo> read_tensor_info(ByteReader& reader, std::uint64_t index,
                                    std::uint64_t alignment) {
  PLUMB_TRY(const std::string_view name,
            reader.text(kMaxNameBytes, "the name of tensor " + std::to_string(index)));
  const std::string what = quoted("tensor", name);
  const auto axes = reader.number<std::uint32_t>();
  if (reader.failed()) return reader.ends_inside(what);
  if (axes > kMaxAxes) {
    return reader.corrupt(what + " has " + std::to_string(axes) + " axes, the limit is " +
                          std::to_string(kMaxAxes));
  }
  Shape shape;
  for (std::uint32_t i = 0; i < axes; ++i) {
    const auto axis = narrow<std::int64_t>(reader.number<std::uint64_t>());
    if (!reader.failed() && (!axis || *axis < 1))
      return reader.corrupt(what + " has an axis outside 1 to 2^63 - 1");
    shape.insert(shape.begin(), axis.value_or(1));
  }
  const auto type = reader.number<std::uint32_t>();
  const auto offset = reader.number<std::uint64_t>();
  if (reader.failed()) return reader.ends_inside(what);
  const auto dtype = dtype_from_gguf(type);
  if (!dtype) {
    Error unknown = reader.corrupt(what + " has the unknown type " + std::to_string(type));
    unknown.code = ErrorCode::kUnsupported;
    return unknown;
  }
  const std::int64_t row = shape.empty() ? 1 : shape.back();
  if (row % info(*dtype).block_elements != 0) {
    return reader.corrupt(what + " has rows of " + std::to_string(row) +
                          " elements, which are not whole blocks of " +
                          std::string(to_string(*dtype)) + ", " +
                          std::to_string(info(*dtype).block_elements) + " each");
  }
  const auto elements = element_count(shape);
  const auto bytes = elements ? stored_size(*dtype, *elements) : std::nullopt;
  if (!bytes)
    return reader.corrupt(what + " has the shape " + to_string(shape) + ", whose size overflows");
  if (offset % alignment != 0) {
    return reader.corrupt(what + " lies at offset " + std::to_string(offset) +
                          ", which is no multiple of the alignment " + std::to_string(alignment));
  }
  return TensorInfo{{std::string(name), *dtype, std::move(shape), {}}, offset, *bytes};
}

// Points each tensor at its bytes, after checking that all lie in `data` and none on another.
Status place_tensors(const ByteReader& reader, std::span<const std::byte> data,
                     std::vector<TensorInfo>& infos) {
  std::vector<const TensorInfo*> order;
  for (TensorInfo& entry : infos) {
    const auto end = checked_add(entry.offset, entry.bytes);
    if (!end || *end > data.size()) {
      return reader.corrupt(quoted("tensor", entry.tensor.name) + " needs " +
                            std::to_string(entry.bytes) + " bytes at offset " +
                            std::to_string(entry.offset) + " of the data, which has " +
                            std::to_string(data.size()));
    }
    entry.tensor.bytes = data.subspan(entry.offset, entry.bytes);
    order.push_back(&entry);
  }
  std::sort(order.begin(), order.end(),
            [](const TensorInfo* a, const TensorInfo* b) { return a->offset < b->offset; });
  for (std::size_t i = 1; i < order.size(); ++i) {
    if (order[i - 1]->offset + order[i - 1]->bytes > order[i]->offset) {
      return reader.corrupt(quoted("tensor", order[i - 1]->tensor.name) + " overlaps " +
                            quoted("tensor", order[i]->tensor.name));
    }
  }
  return {};
}

Result<std::uint64_t> read_alignment(const ByteReader& reader, const GgufContents& contents) {
  for (const auto& [key, value] : contents.metadata) {
    if (key != "general.alignment") continue;
    const auto alignment =
        value.is_array || value.type != GgufType::kU32 ? std::nullopt : value.integer();
    if (!alignment || !std::has_single_bit(static_cast<std::uint64_t>(*alignment))) {
      return reader.corrupt("the key \"general.alignment\" is " +
                            (alignment ? std::to_string(*alignment) + ", not a power of two"
                                       : std::string("not a uint32")));
    }
    return static_cast<std::uint64_t>(*alignment);
  }
  return kDefaultAlignment;
}

struct Counts {
  std::uint64_t tensors;
  std::uint64_t keys;
};

Result<Counts> read_header(ByteReader& reader) {
  const auto magic = reader.take(4);
  if (reader.failed() || std::memcmp(magic.data(), "GGUF", 4) != 0)
    return reader.corrupt("is not a GGUF file");
  const auto version = reader.number<std::uint32_t>();
  const Counts counts{reader.number<std::uint64_t>(), reader.number<std::uint64_t>()};
  if (reader.failed()) return reader.ends_inside("the header");
  if (version != 2 && version != 3) {
    return Error{
        ErrorCode::kUnsupported,
        reader
            .corrupt((version & 0xffffU) == 0 ? std::string("is a big-endian GGUF file")
                                              : "has the GGUF version " + std::to_string(version) +
                                                    "; known are 2 and 3")
            .message};
  }
  if (counts.tensors > kMaxTensors) {
    return reader.corrupt("claims " + std::to_string(counts.tensors) + " tensors, the limit is " +
                          std::to_string(kMaxTensors));
  }
  if (counts.keys > kMaxKeys) {
    return reader.corrupt("claims " + std::to_string(counts.keys) + " keys, the limit is " +
                          std::to_string(kMaxKeys));
  }
  return counts;
}

}  // namespace

std::optional<DType> dtype_from_gguf(std::uint32_t type) {
  for (const auto& [number, dtype] : kTensorTypes) {
    if (number == type) return dtype;
  }
  return std::nullopt;
}

std::optional<std::uint32_t> gguf_type_of(DType dtype) {
  for (const auto& [number, known] : kTensorTypes) {
    if (known == dtype) return number;
  }
  return std::nullopt;
}

Result<GgufContents> parse_gguf(std::span<const std::byte> file, std::string_view where) {
  ByteReader reader(file, where);
  PLUMB_TRY(const Counts counts, read_header(reader));
  GgufContents contents;
  PLUMB_TRY_STATUS(read_metadata(reader, counts.keys, contents));
  PLUMB_TRY(const std::uint64_t alignment, read_alignment(reader, contents));
  std::vector<TensorInfo> infos;
  std::unordered_set<std::string> names;
  for (std::uint64_t i = 0; i < counts.tensors; ++i) {
    PLUMB_TRY(TensorInfo entry, read_tensor_info(reader, i, alignment));
    if (!names.insert(entry.tensor.name).second) {
      return reader.corrupt("has " + quoted("the tensor", entry.tensor.name) + " twice");
    }
    infos.push_back(std::move(entry));
  }
  const std::uint64_t padding = (alignment - reader.position() % alignment) % alignment;
  const auto data = padding <= reader.remaining() ? file.subspan(reader.position() + padding)
                                                  : std::span<const std::byte>();
  PLUMB_TRY_STATUS(place_tensors(reader, data, infos));
  for (TensorInfo& entry : infos)
    contents.tensors.push_back(std::move(entry.tensor));
  return contents;
}

}  // namespace plumb
