// The GGUF reader against the classes of hostile files in specs/server.md, section 4, each with its sentence.
#include "io/gguf/reader.h"

#include <gtest/gtest.h>

#include <cstring>

#include "io/io_test_support.h"

namespace plumb {
namespace {

// Bytes of a GGUF file, field by field.
class Bytes {
 public:
  template <class T>
  Bytes& number(T value) {
    data_.append(reinterpret_cast<const char*>(&value), sizeof(value));
    return *this;
  }
  Bytes& text(std::string_view value) {
    number<std::uint64_t>(value.size());
    data_.append(value);
    return *this;
  }
  Bytes& raw(std::string_view value) {
    data_.append(value);
    return *this;
  }
  Bytes& header(std::uint64_t tensors, std::uint64_t keys, std::uint32_t version = 3) {
    return raw("GGUF").number(version).number(tensors).number(keys);
  }
  Bytes& key(std::string_view name, GgufType type) {
    return text(name).number(static_cast<std::uint32_t>(type));
  }
  Bytes& tensor(std::string_view name, const std::vector<std::uint64_t>& axes, std::uint32_t type,
                std::uint64_t offset) {
    text(name).number(static_cast<std::uint32_t>(axes.size()));
    for (const std::uint64_t axis : axes)
      number(axis);
    return number(type).number(offset);
  }
  Bytes& pad(std::size_t alignment) {
    while (data_.size() % alignment != 0)
      data_ += '\0';
    return *this;
  }
  const std::string& data() const { return data_; }

 private:
  std::string data_;
};

std::string error_of(const Bytes& bytes) {
  const auto parsed = parse_gguf(std::as_bytes(std::span(bytes.data())), "F");
  return parsed.ok() ? "accepted" : parsed.error().message;
}

constexpr std::uint32_t kF32 = 0;
constexpr std::uint32_t kQ8 = 8;

TEST(Gguf, EveryMetadataTypeIsRead) {
  Bytes bytes;
  bytes.header(0, 14, 2);
  bytes.key("u8", GgufType::kU8)
      .number<std::uint8_t>(200)
      .key("i8", GgufType::kI8)
      .number<std::int8_t>(-3);
  bytes.key("u16", GgufType::kU16)
      .number<std::uint16_t>(60000)
      .key("i16", GgufType::kI16)
      .number<std::int16_t>(-300);
  bytes.key("u32", GgufType::kU32)
      .number<std::uint32_t>(4000000000U)
      .key("i32", GgufType::kI32)
      .number<std::int32_t>(-7);
  bytes.key("f32", GgufType::kF32)
      .number<float>(0.5F)
      .key("bool", GgufType::kBool)
      .number<std::uint8_t>(1);
  bytes.key("u64", GgufType::kU64).number<std::uint64_t>(~std::uint64_t{0});
  bytes.key("i64", GgufType::kI64)
      .number<std::int64_t>(-1)
      .key("f64", GgufType::kF64)
      .number<double>(0.1);
  bytes.key("text", GgufType::kString).text("hello");
  bytes.key("texts", GgufType::kArray)
      .number<std::uint32_t>(8)
      .number<std::uint64_t>(2)
      .text("a")
      .text("");
  bytes.key("ints", GgufType::kArray)
      .number<std::uint32_t>(5)
      .number<std::uint64_t>(2)
      .number<std::int32_t>(4)
      .number<std::int32_t>(-5);
  const auto parsed = parse_gguf(std::as_bytes(std::span(bytes.data())), "F");
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  const auto& metadata = parsed.value().metadata;
  EXPECT_EQ(metadata[0].second.integer(), 200);
  EXPECT_EQ(metadata[1].second.integer(), -3);
  EXPECT_EQ(metadata[2].second.integer(), 60000);
  EXPECT_EQ(metadata[3].second.integer(), -300);
  EXPECT_EQ(metadata[4].second.number(), 4e9);
  EXPECT_EQ(metadata[5].second.integer(), -7);
  EXPECT_EQ(metadata[6].second.number(), 0.5);
  EXPECT_EQ(metadata[6].second.integer(), std::nullopt);
  EXPECT_EQ(metadata[7].second.flag(), true);
  EXPECT_EQ(metadata[8].second.integer(), std::nullopt);  // past 63 bits
  EXPECT_EQ(metadata[9].second.integer(), -1);
  EXPECT_EQ(metadata[10].second.number(), 0.1);
  EXPECT_EQ(metadata[11].second.text(), "hello");
  EXPECT_EQ(metadata[12].second.size(), 2U);
  EXPECT_EQ(metadata[12].second.text(0), "a");
  EXPECT_EQ(metadata[13].second.integer(1), -5);
  EXPECT_EQ(metadata[13].second.integer(2), std::nullopt);
}

TEST(Gguf, TensorsHaveTheirAxesReversed) {
  Bytes bytes;
  bytes.header(1, 0).tensor("t", {2, 3}, kF32, 0).pad(32).raw(std::string(24, 'x'));
  const auto parsed = parse_gguf(std::as_bytes(std::span(bytes.data())), "F");
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  EXPECT_EQ(parsed.value().tensors[0].shape, (Shape{3, 2}));
  EXPECT_EQ(parsed.value().tensors[0].bytes.size(), 24U);
}

TEST(GgufHostile, Header) {
  EXPECT_EQ(error_of(Bytes()), "F: is not a GGUF file");
  EXPECT_EQ(error_of(Bytes().raw("GGML0000")), "F: is not a GGUF file");
  EXPECT_EQ(error_of(Bytes().raw("GGUF").number<std::uint32_t>(3)),
            "F: the file ends inside the header, after 8 bytes");
  EXPECT_EQ(error_of(Bytes().header(0, 0, 1)), "F: has the GGUF version 1; known are 2 and 3");
  EXPECT_EQ(error_of(Bytes().header(0, 0, 0x03000000)), "F: is a big-endian GGUF file");
  EXPECT_EQ(error_of(Bytes().header(std::uint64_t{1} << 60, 0)),
            "F: claims 1152921504606846976 tensors, the limit is 1000000");
  EXPECT_EQ(error_of(Bytes().header(0, std::uint64_t{1} << 60)),
            "F: claims 1152921504606846976 keys, the limit is 100000");
  EXPECT_EQ(error_of(Bytes().header(0, 1)),
            "F: the file ends inside the name of key 0, after 24 bytes");
  EXPECT_EQ(error_of(Bytes().header(1, 0)),
            "F: the file ends inside the name of tensor 0, after 24 bytes");
}

TEST(GgufHostile, Metadata) {
  EXPECT_EQ(error_of(Bytes().header(0, 1).number(~std::uint64_t{0})),
            "F: the name of key 0 has 18446744073709551615 bytes, the limit is 256");
  EXPECT_EQ(
      error_of(Bytes().header(0, 1).key("k", GgufType::kString).number(std::uint64_t{1} << 40)),
      "F: the key \"k\" has 1099511627776 bytes, the limit is 67108864");
  EXPECT_EQ(
      error_of(
          Bytes().header(0, 1).key("k", GgufType::kString).number(std::uint64_t{9}).raw("short")),
      "F: the file ends inside the key \"k\", after 50 bytes");
  EXPECT_EQ(error_of(Bytes().header(0, 1).key("k", static_cast<GgufType>(13))),
            "F: the key \"k\" has the unknown type 13");
  EXPECT_EQ(error_of(Bytes()
                         .header(0, 1)
                         .key("k", GgufType::kArray)
                         .number<std::uint32_t>(9)
                         .number<std::uint64_t>(1)),
            "F: the key \"k\" is an array of arrays, which nest at most once");
  EXPECT_EQ(error_of(Bytes()
                         .header(0, 1)
                         .key("k", GgufType::kArray)
                         .number<std::uint32_t>(77)
                         .number<std::uint64_t>(1)),
            "F: the key \"k\" is an array of the unknown type 77");
  EXPECT_EQ(error_of(Bytes()
                         .header(0, 1)
                         .key("k", GgufType::kArray)
                         .number<std::uint32_t>(4)
                         .number(std::uint64_t{1} << 62)),
            "F: the key \"k\" claims 4611686018427387904 elements of uint32, 0 bytes remain");
  EXPECT_EQ(error_of(Bytes()
                         .header(0, 1)
                         .key("k", GgufType::kArray)
                         .number<std::uint32_t>(8)
                         .number(std::uint64_t{1} << 60)),
            "F: the key \"k\" claims 1152921504606846976 strings, 0 bytes remain");
  EXPECT_EQ(error_of(Bytes()
                         .header(0, 2)
                         .key("k", GgufType::kU8)
                         .number<std::uint8_t>(1)
                         .key("k", GgufType::kU8)
                         .number<std::uint8_t>(1)),
            "F: has the key \"k\" twice");
  EXPECT_EQ(
      error_of(
          Bytes().header(0, 1).key("general.alignment", GgufType::kU32).number<std::uint32_t>(0)),
      "F: the key \"general.alignment\" is 0, not a power of two");
  EXPECT_EQ(
      error_of(
          Bytes().header(0, 1).key("general.alignment", GgufType::kU32).number<std::uint32_t>(24)),
      "F: the key \"general.alignment\" is 24, not a power of two");
  EXPECT_EQ(error_of(Bytes().header(0, 1).key("general.alignment", GgufType::kString).text("32")),
            "F: the key \"general.alignment\" is not a uint32");
}

// The two files that ggml's own overflow check lets pass (specs/server.md, "open in ggml") come first.
TEST(GgufHostile, ShapesWhoseProductWraps) {
  const std::uint64_t half = std::uint64_t{1} << 31;
  EXPECT_EQ(error_of(Bytes().header(1, 0).tensor("t", {half * 2, half * 2}, kF32, 0).pad(32)),
            "F: tensor \"t\" has the shape [4294967296, 4294967296], whose size overflows");
  EXPECT_EQ(error_of(Bytes().header(1, 0).tensor("t", {half, half, 4}, kF32, 0).pad(32)),
            "F: tensor \"t\" has the shape [4, 2147483648, 2147483648], whose size overflows");
  EXPECT_EQ(error_of(Bytes().header(1, 0).tensor("t", {std::uint64_t{1} << 62}, kF32, 0).pad(32)),
            "F: tensor \"t\" has the shape [4611686018427387904], whose size overflows");
  EXPECT_EQ(error_of(Bytes().header(1, 0).tensor("t", {0}, kF32, 0).pad(32)),
            "F: tensor \"t\" has an axis outside 1 to 2^63 - 1");
  EXPECT_EQ(error_of(Bytes().header(1, 0).tensor("t", {~std::uint64_t{0}}, kF32, 0).pad(32)),
            "F: tensor \"t\" has an axis outside 1 to 2^63 - 1");
}

TEST(GgufHostile, Tensors) {
  EXPECT_EQ(error_of(Bytes().header(1, 0).tensor("t", {1, 1, 1, 1, 1}, kF32, 0)),
            "F: tensor \"t\" has 5 axes, the limit is 4");
  EXPECT_EQ(error_of(Bytes().header(1, 0).text("t").number<std::uint32_t>(0xffffffffU)),
            "F: tensor \"t\" has 4294967295 axes, the limit is 4");
  EXPECT_EQ(error_of(Bytes().header(1, 0).text("t").number<std::uint32_t>(2)),
            "F: the file ends inside tensor \"t\", after 37 bytes");
  EXPECT_EQ(error_of(Bytes().header(1, 0).tensor("t", {32}, 4, 0)),
            "F: tensor \"t\" has the unknown type 4");
  EXPECT_EQ(error_of(Bytes().header(1, 0).tensor("t", {40}, kQ8, 0)),
            "F: tensor \"t\" has rows of 40 elements, which are not whole blocks of Q8_0, 32 each");
  EXPECT_EQ(error_of(Bytes().header(1, 0).tensor(std::string(257, 'n'), {1}, kF32, 0)),
            "F: the name of tensor 0 has 257 bytes, the limit is 256");
  EXPECT_EQ(error_of(Bytes().header(2, 0).tensor("t", {1}, kF32, 0).tensor("t", {1}, kF32, 32)),
            "F: has the tensor \"t\" twice");
}

TEST(GgufHostile, TensorsOutsideTheFile) {
  // ggml's own reader accepts this one: 4 MiB claimed, 64 bytes there.
  EXPECT_EQ(error_of(Bytes()
                         .header(1, 0)
                         .tensor("t", {1024, 1024}, kF32, 0)
                         .pad(32)
                         .raw(std::string(64, 'x'))),
            "F: tensor \"t\" needs 4194304 bytes at offset 0 of the data, which has 64");
  EXPECT_EQ(error_of(Bytes().header(1, 0).tensor("t", {1}, kF32, 0)),
            "F: tensor \"t\" needs 4 bytes at offset 0 of the data, which has 0");
  EXPECT_EQ(
      error_of(Bytes().header(1, 0).tensor("t", {1}, kF32, ~std::uint64_t{31}).pad(32).raw("data")),
      "F: tensor \"t\" needs 4 bytes at offset 18446744073709551584 of the data, which has 4");
  EXPECT_EQ(error_of(Bytes().header(1, 0).tensor("t", {1}, kF32, 4).pad(32).raw("xxxxdata")),
            "F: tensor \"t\" lies at offset 4, which is no multiple of the alignment 32");
  EXPECT_EQ(error_of(Bytes()
                         .header(2, 0)
                         .tensor("a", {9}, kF32, 0)
                         .tensor("b", {1}, kF32, 32)
                         .pad(32)
                         .raw(std::string(64, 'x'))),
            "F: tensor \"a\" overlaps tensor \"b\"");
}

class SplitGguf : public ::testing::Test {
 protected:
  std::filesystem::path part(std::string_view name, std::uint16_t number, std::uint16_t count,
                             std::string_view tensor, int tensors = 2) const {
    Bytes bytes;
    bytes.header(1, 3)
        .key("split.no", GgufType::kU16)
        .number(number)
        .key("split.count", GgufType::kU16)
        .number(count);
    bytes.key("split.tensors.count", GgufType::kI32).number<std::int32_t>(tensors);
    bytes.tensor(tensor, {1}, kF32, 0).pad(32).raw("data");
    return folder_.write(name, bytes.data());
  }

  std::string error_of_opening(const std::filesystem::path& path) const {
    const auto opened = GgufFile::open(path);
    return opened.ok() ? "accepted"
                       : opened.error().message.substr(folder_.path().string().size() + 1);
  }

  test::TemporaryFolder folder_;
};

TEST_F(SplitGguf, OpensItsOtherParts) {
  const auto first = part("m-00001-of-00002.gguf", 0, 2, "a");
  part("m-00002-of-00002.gguf", 1, 2, "b");
  const auto opened = GgufFile::open(first);
  ASSERT_TRUE(opened.ok()) << opened.error().message;
  EXPECT_EQ(opened.value()->tensors().size(), 2U);
  EXPECT_EQ(opened.value()->find("b")->bytes[0], std::byte{'d'});
}

TEST_F(SplitGguf, PartsThatDoNotFit) {
  const auto first = part("m-00001-of-00002.gguf", 0, 2, "a");
  EXPECT_EQ(error_of_opening(first),
            "m-00002-of-00002.gguf: cannot open: No such file or directory");
  const auto second = part("m-00002-of-00002.gguf", 1, 2, "a");
  EXPECT_EQ(error_of_opening(second),
            "m-00002-of-00002.gguf: is part 2 of 2; the first part opens the others");
  EXPECT_EQ(error_of_opening(first),
            "m-00001-of-00002.gguf: its parts hold the tensor \"a\" twice");
  part("m-00002-of-00002.gguf", 0, 2, "b");
  EXPECT_EQ(error_of_opening(first),
            "m-00002-of-00002.gguf: says it is part 1, where part 2 should be");
  part("m-00002-of-00002.gguf", 1, 2, "b");
  part("m-00001-of-00002.gguf", 0, 2, "a", 3);
  EXPECT_EQ(error_of_opening(first),
            "m-00001-of-00002.gguf: its parts hold 2 tensors, the key \"split.tensors.count\" says "
            "otherwise");
  EXPECT_EQ(error_of_opening(part("other.gguf", 0, 2, "a")),
            "other.gguf: is part 1 of 2, but its name does not end in -00001-of-00002.gguf");
}

}  // namespace
}  // namespace plumb
