// The reference executor's contract: the same bits for every prompt chunk, thread count and split between prefill and decode.
#include "golden.h"

namespace plumb {
namespace {

class Split : public testing::TestWithParam<std::string> {};

TEST_P(Split, ChunksAndThreadsChangeNoBit) {
  const Model model = golden::load(GetParam());
  const golden::Golden golden(GetParam());
  for (const Precision precision : {Precision::kFp32, Precision::kHfBf16, Precision::kMlxBf16, Precision::kGgmlFlash}) {
    for (const std::string prompt : {"unicode", "capital"}) {
      const auto ids = golden.ids(prompt);
      const Tensor whole = golden::logits(model.network, ids, precision, 1, 0);
      for (const std::int64_t chunk : {1, 3, 7}) {
        EXPECT_EQ(golden::logits(model.network, ids, precision, 1, chunk).data, whole.data)
            << prompt << ", chunk " << chunk << ", " << to_string(precision);
      }
      for (const int threads : {2, 3}) {
        EXPECT_EQ(golden::logits(model.network, ids, precision, threads, 0).data, whole.data)
            << prompt << ", " << threads << " threads, " << to_string(precision);
      }
    }
  }
}

TEST_P(Split, DecodeGivesPrefillsBits) {
  const Model model = golden::load(GetParam());
  const auto ids = golden::Golden(GetParam()).ids("unicode");
  const Tensor whole = golden::logits(model.network, ids, Precision::kFp32, 2, 0);
  const auto executor = make_reference_executor(model.network, Precision::kFp32, 2);
  const auto sequence = executor->start();
  for (std::size_t t = 0; t < ids.size(); ++t) {
    const auto step = executor->forward(*sequence, std::span(ids).subspan(t, 1), {});
    ASSERT_TRUE(step.ok()) << step.error().message;
    const auto expected = whole.row(static_cast<std::int64_t>(t));
    ASSERT_TRUE(std::equal(expected.begin(), expected.end(), step.value().data.begin()))
        << "position " << t;
  }
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, Split,
                         testing::ValuesIn(golden::names("golden/golden.safetensors")),
                         golden::test_name);

}  // namespace
}  // namespace plumb
