// Files that the writer makes, byte by byte; tests/python reads them with the safetensors package.
#include "io/safetensors_writer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/mapped_file.h"

namespace plumb {
namespace {

class SafetensorsWriterTest : public testing::Test {
 protected:
  SafetensorsWriterTest() : folder_(std::filesystem::path(testing::TempDir()) / make_name()) {
    std::filesystem::create_directories(folder_);
  }
  ~SafetensorsWriterTest() override { std::filesystem::remove_all(folder_); }

  static std::string make_name() {
    return std::string("plumb-writer-") +
           testing::UnitTest::GetInstance()->current_test_info()->name();
  }

  std::size_t files() const {
    const std::filesystem::directory_iterator all(folder_);
    return static_cast<std::size_t>(std::distance(begin(all), end(all)));
  }

  std::filesystem::path folder_;
};

template <class T>
T at(const std::string& bytes, std::size_t offset) {
  T value{};
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

TEST_F(SafetensorsWriterTest, WritesEachTypeWhereTheHeaderSays) {
  const auto path = folder_ / "a.safetensors";
  auto created = SafetensorsWriter::create(path,
                                           {{"half", DType::kF16, {1}},
                                            {"brain", DType::kBF16, {3}},
                                            {"ids", DType::kI32, {2}},
                                            {"single", DType::kF32, {2, 1}},
                                            {"double", DType::kF64, {}},
                                            {"long", DType::kI64, {1}},
                                            {"none", DType::kF32, {0, 5}}},
                                           {{"made by", "a test"}});
  ASSERT_TRUE(created.ok()) << created.error().message;
  {
    SafetensorsWriter writer = std::move(created).value();
    EXPECT_TRUE(writer.write(3, std::vector<double>{0.1}).ok());
    EXPECT_TRUE(writer.write(2, std::vector<double>{-5, 2147483647}).ok());
    EXPECT_TRUE(writer.write(3, std::vector<double>{-2}).ok());
    EXPECT_TRUE(writer.write(0, std::vector<double>{65504}).ok());
    EXPECT_TRUE(writer.write(1, std::vector<double>{1.00390625, 1.01171875, -1}).ok());
    EXPECT_TRUE(writer.write(4, std::vector<double>{0.1}).ok());
    EXPECT_TRUE(writer.write(5, std::vector<double>{-1}).ok());
    EXPECT_FALSE(std::filesystem::exists(path));
    const Status finished = writer.finish();
    EXPECT_TRUE(finished.ok()) << finished.error().message;
  }
  EXPECT_EQ(files(), 1U);
  const auto text = read_text_file(path, 4096);
  ASSERT_TRUE(text.ok());
  const std::string& bytes = text.value();
  const auto length = at<std::uint64_t>(bytes, 0);
  EXPECT_EQ(length % 8, 0U);
  const auto header = nlohmann::json::parse(bytes.substr(8, length));
  EXPECT_EQ(header["__metadata__"]["made by"], "a test");
  EXPECT_EQ(header["single"]["shape"], (nlohmann::json{2, 1}));
  EXPECT_EQ(header["double"]["shape"], nlohmann::json::array());
  const auto offset = [&](const char* name) {
    return 8 + length + header[name]["data_offsets"][0].get<std::uint64_t>();
  };
  EXPECT_EQ(at<double>(bytes, offset("double")), 0.1);
  EXPECT_EQ(at<std::int64_t>(bytes, offset("long")), -1);
  EXPECT_EQ(at<float>(bytes, offset("single")), 0.1F);
  EXPECT_EQ(at<float>(bytes, offset("single") + 4), -2.0F);
  EXPECT_EQ(at<std::int32_t>(bytes, offset("ids")), -5);
  EXPECT_EQ(at<std::int32_t>(bytes, offset("ids") + 4), 2147483647);
  EXPECT_EQ(at<std::uint16_t>(bytes, offset("half")), 0x7bffU);
  EXPECT_EQ(at<std::uint16_t>(bytes, offset("brain")), 0x3f80U);      // ties to even
  EXPECT_EQ(at<std::uint16_t>(bytes, offset("brain") + 2), 0x3f82U);  // ties to even
  EXPECT_EQ(bytes.size(), 8 + length + 8 + 8 + 8 + 8 + 2 + 6);
  EXPECT_EQ(offset("double") % 8, 0U);
  EXPECT_EQ(offset("single") % 4, 0U);
}

TEST_F(SafetensorsWriterTest, LeavesNothingBehindUnlessFinished) {
  const auto path = folder_ / "a.safetensors";
  {
    auto created = SafetensorsWriter::create(path, {{"x", DType::kF32, {2}}}, {});
    ASSERT_TRUE(created.ok());
    SafetensorsWriter writer = std::move(created).value();
    EXPECT_EQ(files(), 1U);
    EXPECT_TRUE(writer.write(0, std::vector<double>{1}).ok());
    EXPECT_NE(writer.finish().error().message.find("tensor x lacks 1 elements"), std::string::npos);
  }
  EXPECT_EQ(files(), 0U);
}

TEST_F(SafetensorsWriterTest, SaysWhatItCannotWrite) {
  const auto path = folder_ / "a.safetensors";
  EXPECT_FALSE(SafetensorsWriter::create(path, {{"x", DType::kU8, {2}}}, {}).ok());
  EXPECT_FALSE(SafetensorsWriter::create(path, {{"x", DType::kF32, {-1}}}, {}).ok());
  EXPECT_FALSE(
      SafetensorsWriter::create(path, {{"x", DType::kF64, {std::int64_t{1} << 61}}}, {}).ok());
  EXPECT_FALSE(
      SafetensorsWriter::create(path, {{"x", DType::kF32, {1}}, {"x", DType::kI32, {1}}}, {}).ok());
  EXPECT_FALSE(SafetensorsWriter::create(path, {{"__metadata__", DType::kF32, {1}}}, {}).ok());
  EXPECT_FALSE(SafetensorsWriter::create(folder_ / "no" / "such", {}, {}).ok());
  EXPECT_FALSE(SafetensorsWriter::create(folder_, {}, {}).ok());
  EXPECT_FALSE(SafetensorsWriter::create("/dev/null", {}, {}).ok());
  auto created = SafetensorsWriter::create(path, {{"x", DType::kI32, {2}}}, {});
  ASSERT_TRUE(created.ok());
  SafetensorsWriter writer = std::move(created).value();
  EXPECT_FALSE(writer.write(1, {}).ok());
  EXPECT_FALSE(writer.write(0, std::vector<double>{1, 2, 3}).ok());
  for (const double bad :
       {0.5, 2147483648.0, -2147483649.0, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_FALSE(writer.write(0, std::vector<double>{bad}).ok()) << bad;
  }
  EXPECT_TRUE(writer.write(0, std::vector<double>{-2147483648.0}).ok());
}

}  // namespace
}  // namespace plumb
