// Every block format against the `gguf` package's values, bit for bit (tests/data/gguf-blocks).
#include "io/gguf/blocks.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "io/decode.h"
#include "io/gguf/reader.h"
#include "io/io_test_support.h"

namespace plumb {
namespace {

std::vector<double> decoded(const StoredTensor& tensor) {
  std::vector<double> values(static_cast<std::size_t>(element_count(tensor.shape).value_or(0)));
  decode(tensor.dtype, tensor.bytes, values);
  return values;
}

TEST(GgufBlocks, EveryTypeIsDecodedToTheBit) {
  const auto blocks = GgufFile::open(test::data_path("gguf-blocks/blocks.gguf"));
  const auto expected = open_safetensors(test::data_path("gguf-blocks/blocks.safetensors"));
  ASSERT_TRUE(blocks.ok()) << blocks.error().message;
  ASSERT_TRUE(expected.ok()) << expected.error().message;
  ASSERT_EQ(blocks.value()->tensors().size(), 30U);
  for (const StoredTensor& tensor : blocks.value()->tensors()) {
    SCOPED_TRACE(tensor.name);
    const StoredTensor* reference = expected.value()->find(tensor.name);
    ASSERT_NE(reference, nullptr);
    ASSERT_EQ(tensor.shape, reference->shape);
    std::vector<double> ours = decoded(tensor);
    if (tensor.dtype == DType::kF64) {  // the reference's values are float32
      for (double& value : ours)
        value = static_cast<float>(value);
    }
    const std::vector<double> theirs = decoded(*reference);
    std::size_t different = 0;
    for (std::size_t i = 0; i < ours.size(); ++i) {
      const bool same = std::isnan(theirs[i]) ? std::isnan(ours[i])
                                              : std::bit_cast<std::uint64_t>(ours[i]) ==
                                                    std::bit_cast<std::uint64_t>(theirs[i]);
      if (!same && different++ == 0)
        ADD_FAILURE() << "element " << i << ": " << ours[i] << ", not " << theirs[i];
    }
    EXPECT_EQ(different, 0U);
  }
}

TEST(GgufBlocks, TableAndDecodersAgree) {
  for (int i = 0; i <= static_cast<int>(DType::kNVFP4); ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(block_decoder(dtype) != nullptr, info(dtype).block_elements > 1) << to_string(dtype);
    if (const auto type = gguf_type_of(dtype)) {
      EXPECT_EQ(dtype_from_gguf(*type), dtype);
    }
    EXPECT_EQ(dtype_from_name(to_string(dtype)).has_value(), info(dtype).block_elements == 1);
  }
}

// ggml reads NVFP4's scale code 0x7f as 0 (no NaN), MXFP4's 0xff as 2^127.
TEST(GgufBlocks, ScaleCodesAtTheEdge) {
  std::vector<std::byte> block(36, std::byte{0x11});
  block[0] = std::byte{0x7f};
  std::vector<double> out(64);
  decode(DType::kNVFP4, block, out);
  EXPECT_EQ(out[0], 0);
  block[0] = std::byte{0xff};
  decode(DType::kMXFP4, std::span(block).first(17), std::span(out).first(32));
  EXPECT_EQ(out[0], 0x1p127);
}

}  // namespace
}  // namespace plumb
