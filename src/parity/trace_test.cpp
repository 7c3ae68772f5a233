// Manifests from a stranger: refused in one sentence where nothing can be made of them, and read without a wait.
#include "parity/trace.h"

#include <gtest/gtest.h>

#include "parity/trace_test_support.h"

namespace plumb {
namespace {

// A trace of one tensor whose manifest is `text`.
Result<Trace> open_with(const std::string& text) {
  const std::filesystem::path folder =
      std::filesystem::path(::testing::TempDir()) / ("plumb-manifest-" + std::to_string(::getpid()) + ".trace");
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "manifest.json") << text;
  auto writer = SafetensorsWriter::create(folder / "tensors.safetensors", {{"0/logits", DType::kF32, {1, 2}}}, {});
  EXPECT_TRUE(writer.ok() && writer.value().write(0, std::vector<double>{1, 2}).ok() && writer.value().finish().ok());
  auto trace = Trace::open(folder);
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
  return trace;
}

std::string manifest(const std::string& more, const std::string& token_ids = "[1,2]", const std::string& steps = R"([{"first":0,"count":2}])") {
  return R"({"format":"plumb-trace/1",)" + more + R"("token_ids":)" + token_ids + R"(,"steps":)" + steps + "}";
}

TEST(TraceManifest, ThatNestsDeeplyIsRefused) {
  constexpr std::size_t kDeep = 1'000'000;  // a stack of 8 MiB holds no such recursion
  const std::string deep = std::string(kDeep, '[') + std::string(kDeep, ']');
  EXPECT_TRUE(open_with(manifest("")).ok());
  EXPECT_TRUE(open_with(manifest(R"("model":{"config":{"rope_scaling":{"type":[[1]]}}},)")).ok());
  for (const std::string& text : {manifest(R"("model":{"config":{"a":)" + deep + "}},"), manifest(R"("sampler":)" + deep + ","),
                                  manifest("", "[" + deep + "]")}) {
    const auto trace = open_with(text);
    ASSERT_FALSE(trace.ok());
    EXPECT_NE(trace.error().message.find("manifest.json: nests deeper than 64 levels of JSON"), std::string::npos) << trace.error().message;
  }
}

TEST(TraceManifest, StepsThatFeedMoreThanTheIdsAreKnownToAPoint) {
  std::string steps = R"([{"first":0,"count":2},{"first":2,"count":3})";
  for (int i = 0; i < 50'000; ++i)
    steps += R"(,{"first":0,"count":1099511627776})";
  const auto trace = open_with(manifest(R"("generated":[7,8,9,10],)", "[5,6]", steps + "]"));
  ASSERT_TRUE(trace.ok());
  EXPECT_EQ(trace.value().fed_ids(0), (std::vector<std::int32_t>{5, 6}));
  EXPECT_EQ(trace.value().fed_ids(1), (std::vector<std::int32_t>{7, 8, 9}));
  for (std::size_t step = 2; step < trace.value().steps().size(); ++step)
    ASSERT_TRUE(trace.value().fed_ids(step).empty());
  EXPECT_TRUE(trace.value().fed_ids(trace.value().steps().size()).empty());
}

}  // namespace
}  // namespace plumb
