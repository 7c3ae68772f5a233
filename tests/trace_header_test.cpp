// plumb_trace.h: what a C engine writes with it (tests/trace_engine), read back as any trace.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "parity/trace.h"

namespace plumb {
namespace {

TEST(TraceHeader, TraceOfACEngineIsReadBack) {
  const auto folder = std::filesystem::temp_directory_path() /
                      ("plumb_trace_header_" + std::to_string(getpid()) + ".trace");
  std::filesystem::remove_all(folder);
  const std::string command = std::string(TRACE_ENGINE) + " " + folder.string();
  ASSERT_EQ(std::system(command.c_str()), 0);
  const auto opened = Trace::open(folder);
  ASSERT_TRUE(opened.ok()) << opened.error().message;
  const Trace& trace = opened.value();
  EXPECT_EQ(trace.manifest().engine_name, "engine");
  EXPECT_EQ(trace.manifest().dtype, "float32");
  EXPECT_EQ(trace.manifest().model_type, "llama");
  EXPECT_EQ(trace.manifest().prompt, "a \"quoted\"\n\\ \xC3\xA9");
  EXPECT_EQ(trace.manifest().token_ids, (std::vector<std::int32_t>{1, 2, 3}));
  EXPECT_EQ(trace.manifest().generated, (std::vector<std::int32_t>{4, 4}));
  EXPECT_EQ(trace.manifest().stages,
            (std::vector<std::string>{"embed", "layers.0.residual", "layers.0.moe.ids", "logits"}));
  ASSERT_EQ(trace.steps().size(), 2U);
  EXPECT_EQ(trace.steps()[1].first, 3);
  EXPECT_EQ(trace.fed_ids(1), (std::vector<std::int32_t>{4}));
  ASSERT_EQ(trace.tensors().size(), 8U);
  for (const char* stage : {"embed", "layers.0.residual"}) {
    const StoredTensor* stored = trace.find(1, stage);
    ASSERT_NE(stored, nullptr) << stage;
    EXPECT_EQ(Trace::read(*stored).data, (std::vector<double>{12, 13, 14})) << stage;
  }
  EXPECT_EQ(trace.find(0, "layers.0.residual")->dtype, DType::kBF16);
  EXPECT_EQ(trace.find(0, "logits")->shape, (Shape{3, 5}));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace plumb
