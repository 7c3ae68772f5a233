// E8M0's last code, 255: 2^128 in GGUF files (ggml-impl.h) and in gpt-oss's (transformers, integrations/mxfp4.py), no number elsewhere
// (torch.float8_e8m0fnu). The cpu executor's products have what the decoded weights have.
#include <gtest/gtest.h>

#include <cmath>

#include "cpu/isa.h"
#include "cpu/multiply.h"
#include "io/decode.h"

namespace plumb::cpu {
namespace {

constexpr std::int64_t kColumns = 32;

// One row of MXFP4 with a scale of 255, all of whose codes are `code`.
class Row final : public Weight {
 public:
  enum class Kind { kGguf, kGptOss, kE8M0 };
  Row(Kind kind, unsigned code) : kind_(kind), shape_{1, kColumns}, bytes_(17, static_cast<std::byte>(code * 17)) {
    bytes_[0] = std::byte{255};
  }
  const Shape& shape() const override { return shape_; }
  void read_row(std::int64_t /*row*/, std::span<double> out) const override { decode(DType::kMXFP4, bytes_, out); }
  std::optional<DType> stored_dtype() const override {
    return kind_ == Kind::kGguf ? std::optional(DType::kMXFP4) : std::nullopt;
  }
  std::span<const std::byte> stored_row(std::int64_t /*row*/) const override { return bytes_; }
  std::optional<ScaledForm> scaled_form() const override {
    if (kind_ == Kind::kGguf) return std::nullopt;
    return ScaledForm{ScaledCodes::kE2M1, DType::kF8E8M0, 32, kind_ == Kind::kGptOss};
  }
  ScaledRow scaled_row(std::int64_t /*row*/) const override {
    return {std::span(bytes_).subspan(1), std::span(bytes_).first(1), 1};
  }
  std::string format() const override { return "MXFP4"; }
  std::uint64_t stored_bytes() const override { return bytes_.size(); }

 private:
  Kind kind_;
  Shape shape_;
  std::vector<std::byte> bytes_;
};

float product(const std::shared_ptr<Row>& weight, Isa isa, Activations activations, float x) {
  ThreadPool pool(1);
  BufferPool buffers;
  Matrix matrix(weight, activations, kernels_for(isa));
  const Context context = {.kernels = &kernels_for(isa), .pool = &pool, .buffers = &buffers, .segments = {},
                           .activations = activations, .tables = nullptr, .same_rope = nullptr};
  const std::vector<float> xs(kColumns, x);
  float y = 0;
  const Product product = {.matrix = &matrix, .x = xs.data(), .x_stride = kColumns, .tokens = 1, .bias = nullptr, .y = &y, .y_stride = 1};
  multiply(context, std::span(&product, 1));
  return y;
}

TEST(PowerScales, TheLastCodeIsWhatTheFilesReferenceSays) {
  constexpr float kSmall = 0x1p-126F;  // the least that is normal
  constexpr unsigned kHalf = 1;
  constexpr unsigned kOne = 2;
  for (const Isa isa : available_isas()) {
    for (const Activations activations : {Activations::kExact, Activations::kAuto}) {
      for (const auto kind : {Row::Kind::kGguf, Row::Kind::kGptOss}) {
        EXPECT_EQ(product(std::make_shared<Row>(kind, 0), isa, activations, 1), 0) << to_string(isa);
        EXPECT_EQ(product(std::make_shared<Row>(kind, 8 + kHalf), isa, Activations::kExact, kSmall), -32 * (0x1p127F * kSmall)) << to_string(isa);
        EXPECT_EQ(product(std::make_shared<Row>(kind, kOne), isa, activations, 1), HUGE_VALF) << to_string(isa);
        EXPECT_EQ(product(std::make_shared<Row>(kind, 15), isa, activations, 1), -HUGE_VALF) << to_string(isa);
      }
      for (const unsigned code : {0U, kHalf, 7U})
        EXPECT_TRUE(std::isnan(product(std::make_shared<Row>(Row::Kind::kE8M0, code), isa, activations, 1))) << to_string(isa);
    }
  }
  // What the products are held to.
  std::vector<double> decoded(kColumns);
  Row(Row::Kind::kGguf, kHalf).read_row(0, decoded);
  EXPECT_EQ(decoded[0], 0x1p127);
  Row(Row::Kind::kGguf, kOne).read_row(0, decoded);
  EXPECT_TRUE(std::isinf(decoded[0]));
}

}  // namespace
}  // namespace plumb::cpu
