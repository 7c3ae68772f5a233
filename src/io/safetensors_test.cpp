// The safetensors reader against the classes of hostile files in specs/server.md, section 4, each
// with its sentence.
#include <gtest/gtest.h>

#include "io/decode.h"
#include "io/io_test_support.h"
#include "io/safetensors_header.h"
#include "io/tensor_source.h"

namespace plumb {
namespace {

std::string error_of(std::string_view bytes) {
  const auto parsed = parse_safetensors(std::as_bytes(std::span(bytes)), "F");
  return parsed.ok() ? "accepted" : parsed.error().message;
}

std::string error_of(std::string_view header, std::string_view data) {
  return error_of(test::safetensors_bytes(header, data));
}

TEST(Safetensors, ReadsTensorsInTheOrderOfTheirBytes) {
  const std::string bytes = test::safetensors_bytes(
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"U8","shape":[2,1],"data_offsets":[4,6]},)"
      R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"empty":{"dtype":"I64","shape":[0,7],"data_offsets":[6,6]}}  )",
      std::string("\0\0\x80\x3f\x05\x07", 6));
  const auto parsed = parse_safetensors(std::as_bytes(std::span(bytes)), "F");
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  const auto& tensors = parsed.value();
  ASSERT_EQ(tensors.size(), 3U);
  EXPECT_EQ(tensors[0].name, "a");
  EXPECT_EQ(tensors[0].shape, Shape{});
  std::vector<double> one(1);
  decode(tensors[0].dtype, tensors[0].bytes, one);
  EXPECT_EQ(one[0], 1.0);
  EXPECT_EQ(tensors[1].name, "b");
  EXPECT_EQ(tensors[1].bytes[1], std::byte{7});
  EXPECT_EQ(tensors[2].shape, (Shape{0, 7}));
}

TEST(Safetensors, NoTensorsAtAllIsAFile) {
  EXPECT_EQ(error_of("{}", ""), "accepted");
}

TEST(SafetensorsHostile, LengthOfTheHeader) {
  EXPECT_EQ(error_of("1234567"), "F: has 7 bytes, a safetensors file has at least 8");
  EXPECT_EQ(error_of(std::string("\x05\0\0\0\0\0\0\0{}", 10)),
            "F: its header claims 5 bytes, the file has 2 after the length");
  EXPECT_EQ(error_of(std::string(8, '\xff') + "{}"),
            "F: its header claims 18446744073709551615 bytes, the limit is 100000000");
  EXPECT_EQ(error_of(std::string(8, '\0')), "F: its header does not start with {");
}

TEST(SafetensorsHostile, HeaderThatIsNotTheRightJson) {
  EXPECT_EQ(error_of(" {}", ""), "F: its header does not start with {");
  EXPECT_EQ(error_of("[]", ""), "F: its header does not start with {");
  EXPECT_EQ(error_of("{\"a\":", ""), "F: its header is not a valid JSON object");
  EXPECT_EQ(error_of("{}{}", ""), "F: its header is not a valid JSON object");
  EXPECT_EQ(error_of("{\"\xff\":1}", ""), "F: its header is not a valid JSON object");
  EXPECT_EQ(error_of("{\"a\":[[[[[[[[[1]]]]]]]]]}", ""),
            "F: its header nests deeper than 8 levels of JSON");
  EXPECT_EQ(error_of("{\"a\":" + std::string(1000000, '['), ""),
            "F: its header is not a valid JSON object");
  EXPECT_EQ(error_of("{\"a\":1}", ""), "F: tensor \"a\" is not described by an object");
  EXPECT_EQ(error_of("{\"__metadata__\":1}", ""), "F: its __metadata__ is not an object");
  EXPECT_EQ(error_of("{\"__metadata__\":{\"a\":1}}", ""),
            "F: its __metadata__ key \"a\" is not a string");
}

TEST(SafetensorsHostile, FieldsOfATensor) {
  EXPECT_EQ(error_of(R"({"a":{"dtype":"U8","shape":[1]}})", "x"),
            "F: tensor \"a\" lacks one of dtype, shape and data_offsets");
  EXPECT_EQ(error_of(R"({"a":{"dtype":"F7","shape":[1],"data_offsets":[0,1]}})", "x"),
            "F: tensor \"a\" has the unknown dtype \"F7\"");
  EXPECT_EQ(error_of(R"({"a":{"dtype":3,"shape":[1],"data_offsets":[0,1]}})", "x"),
            "F: tensor \"a\" has a dtype that is not a string");
  EXPECT_EQ(error_of(R"({"a":{"dtype":"U8","shape":1,"data_offsets":[0,1]}})", "x"),
            "F: tensor \"a\" has a shape that is not a list");
  EXPECT_EQ(error_of(R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", "x"),
            "F: tensor \"a\" has a shape with an axis that is not a count");
  EXPECT_EQ(error_of(R"({"a":{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}})", "x"),
            "F: tensor \"a\" has a shape with an axis that is not a count");
  EXPECT_EQ(error_of(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}})", "x"),
            "F: tensor \"a\" has data_offsets that are not two counts");
  EXPECT_EQ(error_of(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,-1]}})", "x"),
            "F: tensor \"a\" has data_offsets that are not two counts");
}

TEST(SafetensorsHostile, DuplicateKeys) {
  const std::string one = R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  EXPECT_EQ(error_of("{" + one + "," + one + "}", "x"), "F: its header has the key \"a\" twice");
  EXPECT_EQ(error_of(R"({"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "x"),
            "F: tensor \"a\" has the key \"dtype\" twice");
}

TEST(SafetensorsHostile, SizesThatWrap) {
  EXPECT_EQ(
      error_of(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", ""),
      "F: tensor \"a\" has the shape [4294967296, 4294967296], whose size overflows");
  EXPECT_EQ(
      error_of(R"({"a":{"dtype":"U8","shape":[2147483648,2147483648,4],"data_offsets":[0,0]}})",
               ""),
      "F: tensor \"a\" has the shape [2147483648, 2147483648, 4], whose size overflows");
  EXPECT_EQ(
      error_of(R"({"a":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}})", ""),
      "F: tensor \"a\" has the shape [2305843009213693952], whose size overflows");
  EXPECT_EQ(
      error_of(R"({"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,0]}})", ""),
      "F: tensor \"a\" has an axis of 18446744073709551615, past 63 bits");
}

TEST(SafetensorsHostile, HolesOverlapsAndEnds) {
  EXPECT_EQ(error_of(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", "xy"),
            "F: tensor \"a\" lies at bytes 1 to 2, where the data before it ends at 0");
  EXPECT_EQ(error_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                     R"("b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
                     "xyz"),
            "F: tensor \"b\" lies at bytes 1 to 3, where the data before it ends at 2");
  EXPECT_EQ(error_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                     R"("b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
                     "xy"),
            "F: tensor \"b\" lies at bytes 0 to 2, where the data before it ends at 2");
  EXPECT_EQ(error_of(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,2]}})", "xy"),
            "F: tensor \"a\" has 2 bytes, its shape [3] of U8 needs 3");
  EXPECT_EQ(error_of(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})", "xy"),
            "F: tensor \"a\" ends at byte 3 of the data, which has 2");
  EXPECT_EQ(error_of(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "xy"),
            "F: its tensors end at byte 1 of the data, which has 2");
  EXPECT_EQ(error_of(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}})", "x"),
            "F: tensor \"a\" lies at bytes 1 to 0, where the data before it ends at 0");
}

class Sharded : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_.write(
        "one.safetensors",
        test::safetensors_bytes(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "A"));
    folder_.write(
        "two.safetensors",
        test::safetensors_bytes(R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "B"));
  }

  // The error of opening the folder with this index, the folder's path left out.
  std::string error_with(std::string_view weight_map) const {
    folder_.write("model.safetensors.index.json",
                  R"({"metadata":{},"weight_map":)" + std::string(weight_map) + "}");
    const auto opened = open_safetensors(folder_.path());
    if (opened.ok()) return "accepted";
    const std::string message = opened.error().message;
    return message.substr(folder_.path().string().size() + 1);
  }

  test::TemporaryFolder folder_;
};

TEST_F(Sharded, FindsEachTensorInItsShard) {
  ASSERT_EQ(error_with(R"({"a":"one.safetensors","b":"two.safetensors"})"), "accepted");
  const auto source = open_safetensors(folder_.path()).value();
  EXPECT_EQ(source->tensors().size(), 2U);
  EXPECT_EQ(source->find("b")->bytes[0], std::byte{'B'});
  EXPECT_EQ(source->find("c"), nullptr);
}

TEST_F(Sharded, TheIndexMustTellTheTruth) {
  EXPECT_EQ(error_with(R"({"a":"two.safetensors","b":"two.safetensors"})"),
            "two.safetensors: holds 1 tensors, the index puts 2 there");
  EXPECT_EQ(error_with(R"({"a":"one.safetensors","b":"one.safetensors"})"),
            "one.safetensors: holds 1 tensors, the index puts 2 there");
  EXPECT_EQ(error_with(R"({"a":"two.safetensors","b":"one.safetensors"})"),
            "one.safetensors: holds the tensor \"a\", which the index puts in \"two.safetensors\"");
  EXPECT_EQ(error_with(R"({"c":"one.safetensors"})"),
            "one.safetensors: holds the tensor \"a\", which the index does not list");
  EXPECT_EQ(error_with(R"({"a":"none.safetensors"})"),
            "none.safetensors: cannot open: No such file or directory");
  EXPECT_EQ(error_with(R"({})"), "model.safetensors.index.json: lists no tensors");
  EXPECT_EQ(error_with("3"),
            "model.safetensors.index.json: is not a JSON object with an object weight_map");
  EXPECT_EQ(error_with(R"({"a":"one.safetensors","a":"one.safetensors"})"),
            "model.safetensors.index.json: has the tensor \"a\" twice");
}

TEST_F(Sharded, NamesThatLeaveTheFolderAreRefused) {
  for (const std::string name : {"../one.safetensors", "/etc/passwd", "..", "a/b", "."}) {
    EXPECT_EQ(error_with("{\"a\":\"" + name + "\"}"),
              "model.safetensors.index.json: puts the tensor \"a\" in \"" + name +
                  "\", which is not a name of a file beside it");
  }
  EXPECT_EQ(
      error_with(R"({"a":3})"),
      "model.safetensors.index.json: puts the tensor \"a\" in a file whose name is not a string");
}

TEST(SafetensorsFolder, WithoutWeightsSaysSo) {
  const test::TemporaryFolder folder;
  const auto opened = open_safetensors(folder.path());
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().message,
            folder.path().string() +
                ": holds neither model.safetensors nor model.safetensors.index.json");
}

}  // namespace
}  // namespace plumb
